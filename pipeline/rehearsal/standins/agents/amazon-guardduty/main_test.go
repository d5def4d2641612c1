package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const document = `{"accountId":"123456789012","instanceId":"i-1","region":"eu-west-1"}`

// goodMachine has every prerequisite; its data endpoint answers with what `status` gives for the nth heartbeat.
func goodMachine(t *testing.T, status func(beat int32) int) machine {
	t.Helper()
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			w.Write([]byte("token"))
		case r.Header.Get("X-aws-ec2-metadata-token") != "token":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Write([]byte(document))
		}
	}))
	t.Cleanup(metadata.Close)
	var beats atomic.Int32
	data := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			IdentityDocument map[string]string
			AgentVersion     string
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.IdentityDocument["instanceId"] != "i-1" ||
			body.AgentVersion != version || r.URL.Path != "/heartbeat" {
			t.Errorf("heartbeat to %s with %+v, %v", r.URL.Path, body, err)
		}
		w.WriteHeader(status(beats.Add(1)))
	}))
	t.Cleanup(data.Close)
	btf := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(btf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return machine{
		btfFile:       btf,
		kernelRelease: "5.10.0-32-cloud-amd64",
		memlock:       syscall.Rlimit{Cur: memlockNeeded, Max: memlockNeeded},
		metadataURL:   metadata.URL,
		dataURL:       func(string) string { return data.URL },
		heartbeat:     time.Millisecond,
	}
}

func alwaysOK(int32) int { return http.StatusOK }

func TestEachMissingPrerequisiteHasItsExitCode(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	cases := map[string]struct {
		breakIt func(*machine)
		code    int
		text    string
	}{
		"no BTF": {func(m *machine) { m.btfFile = "/nonexistent" }, 3, "the kernel has no BTF"},
		"soft limit too low on 5.10": {
			func(m *machine) { m.memlock.Cur = 65536 }, 4,
			"RLIMIT_MEMLOCK is 65536 soft, 33554432 hard; kernels up to 5.10 need 33554432",
		},
		"hard limit too low on 5.4": {
			func(m *machine) { m.kernelRelease = "5.4.1-x"; m.memlock = syscall.Rlimit{Cur: 1, Max: 1} }, 4,
			"RLIMIT_MEMLOCK is 1 soft, 1 hard",
		},
		"no metadata service": {
			func(m *machine) { m.metadataURL = closed.URL }, 5, "Unable to retrieve instance identity document.",
		},
		"no data endpoint": {
			func(m *machine) { m.dataURL = func(string) string { return closed.URL } }, 6,
			"cannot reach the GuardDuty data endpoint",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			here := goodMachine(t, alwaysOK)
			c.breakIt(&here)
			var missing failure
			err := run(context.Background(), here)
			if !errors.As(err, &missing) || missing.code != c.code || !strings.HasPrefix(missing.text, c.text) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestNewerKernelsNeedNoLockedMemory(t *testing.T) {
	here := goodMachine(t, alwaysOK)
	here.memlock = syscall.Rlimit{}
	for _, release := range []string{"5.15.1-x", "6.1.0-x", "5.11.0"} {
		here.kernelRelease = release
		if err := checkKernel(here); err != nil {
			t.Errorf("%s: %v", release, err)
		}
	}
}

func TestAKernelWithoutVersionIsRefused(t *testing.T) {
	if _, err := upTo510("linux"); err == nil || err.Error() != `kernel release "linux" has no version` {
		t.Fatalf("got %v", err)
	}
}

func TestItSurvivesMissedHeartbeatsButNotThreeInARow(t *testing.T) {
	statuses := map[int32]int{2: 500, 3: 500, 5: 500, 6: 500, 7: 500}
	here := goodMachine(t, func(beat int32) int {
		if status, bad := statuses[beat]; bad {
			return status
		}
		return http.StatusOK
	})
	err := run(context.Background(), here)
	want := "cannot reach the GuardDuty data endpoint: answered 500 Internal Server Error"
	if err == nil || err.Error() != want {
		t.Fatalf("got %v", err)
	}
}

func TestBeingStoppedIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	here := goodMachine(t, func(beat int32) int {
		if beat == 2 {
			cancel()
		}
		return http.StatusOK
	})
	if err := run(ctx, here); err != nil {
		t.Fatal(err)
	}
}
