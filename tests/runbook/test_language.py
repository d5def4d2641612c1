from pipeline.runbook.language import ACTIONS, LIMITS, ON_CANCEL_FORBIDDEN_TARGETS, ON_CANCEL_UNSUPPORTED


def test_the_23_actions_are_known() -> None:
    assert len(ACTIONS) == 23
    assert all(name == action.name and name.startswith("aws:") for name, action in ACTIONS.items())


def test_rules_about_cancelling_name_known_actions() -> None:
    assert set(ACTIONS) >= ON_CANCEL_FORBIDDEN_TARGETS | ON_CANCEL_UNSUPPORTED


def test_one_of_names_inputs_of_the_action() -> None:
    assert {
        (action.name, name) for action in ACTIONS.values() for name in action.one_of if name not in action.inputs
    } == set()


def test_no_default_time_is_over_the_most_that_is_allowed() -> None:
    assert [
        action.name
        for action in ACTIONS.values()
        if action.max_seconds is not None and (action.default_seconds or 0) > action.max_seconds
    ] == []
    assert LIMITS.cancel_seconds == 120
