"""EC2, ECS, SSM and CloudFormation of the rehearsed organization. Shapes: the services' API references."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.rehearsal.answered_session import Call, Refused
from pipeline.rehearsal.organization.pages import page
from pipeline.rehearsal.organization.physics import kernel_line, reaches_guardduty, unit_state
from pipeline.rehearsal.organization.state import Cluster, Host, Network, Place, Service
from pipeline.rehearsal.organization.world import SYSTEMS, World


class Compute:
    """The handlers; `account` is the caller's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._commands: dict[tuple[str, str, str], tuple[str, ...]] = {}

    def _place(self, call: Call, account: str) -> Place:
        return self.world.place(account, call.region)

    # ---- EC2

    def ec2_DescribeInstances(self, call: Call, account: str) -> Mapping[str, Any]:
        hosts = [host for host in self._place(call, account).hosts if not host.id.startswith("mi-")]
        if wanted := call.parameters.get("InstanceIds"):
            hosts = [host for host in hosts if host.id in wanted]
            if missing := sorted(set(wanted) - {host.id for host in hosts}):
                raise Refused("InvalidInstanceID.NotFound", f"The instance ID '{missing[0]}' does not exist")
        for criterion in call.parameters.get("Filters", ()):
            hosts = [host for host in hosts if _ec2_value(host, criterion["Name"]) in criterion["Values"]]
        found, token = page(hosts, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 1000))
        reservations = [
            {
                "ReservationId": f"r-{host.id[2:]}",
                "OwnerId": account,
                "Instances": [_instance(host, account, call.region)],
            }
            for host in found
        ]
        return {"Reservations": reservations, **({"NextToken": token} if token else {})}

    def ec2_DescribeVpcs(self, call: Call, account: str) -> Mapping[str, Any]:
        wanted = set(call.parameters.get("VpcIds", ()))
        vpcs = [
            {
                "VpcId": network.vpc,
                "CidrBlock": network.cidr,
                "CidrBlockAssociationSet": [
                    {
                        "AssociationId": f"vpc-cidr-assoc-{number}",
                        "CidrBlock": cidr,
                        "CidrBlockState": {"State": "associated"},
                    }
                    for number, cidr in enumerate((network.cidr, *network.more_cidrs))
                ],
                "OwnerId": network.owner or account,
                "State": "available",
            }
            for network in self._place(call, account).networks
            if not wanted or network.vpc in wanted
        ]
        return {"Vpcs": vpcs}

    def ec2_DescribeSubnets(self, call: Call, account: str) -> Mapping[str, Any]:
        (criterion,) = call.parameters["Filters"]
        subnets = [
            {"SubnetId": network.subnet, "VpcId": network.vpc, "AvailabilityZone": f"{call.region}a"}
            for network in self._place(call, account).networks
            if criterion["Name"] == "vpc-id" and network.vpc in criterion["Values"]
        ]
        return {"Subnets": subnets}

    def ec2_DescribeVpcAttribute(self, call: Call, account: str) -> Mapping[str, Any]:
        network = self._owned(call, account, call.parameters["VpcId"])
        if call.parameters["Attribute"] == "enableDnsSupport":
            return {"VpcId": network.vpc, "EnableDnsSupport": {"Value": network.dns_support}}
        return {"VpcId": network.vpc, "EnableDnsHostnames": {"Value": network.dns_hostnames}}

    def ec2_DescribeVpcEndpoints(self, call: Call, account: str) -> Mapping[str, Any]:
        endpoints = [
            {
                "VpcEndpointId": network.endpoint,
                "VpcEndpointType": "Interface",
                "VpcId": network.vpc,
                "ServiceName": f"com.amazonaws.{network.endpoint_region or call.region}.guardduty-data",
                "State": network.endpoint_state,
                "PrivateDnsEnabled": network.endpoint_dns,
                "SubnetIds": [network.endpoint_subnet] if network.endpoint_subnet else [],
                "NetworkInterfaceIds": [_interface(network)] if network.endpoint_subnet else [],
                "Groups": [{"GroupId": network.endpoint_group, "GroupName": "guardduty-data"}],
                "PolicyDocument": network.endpoint_policy or self._open_policy(account, network),
                "OwnerId": account,
            }
            for network in self.world.owned_networks(account, call.region)
            if network.endpoint
        ]
        for criterion in call.parameters.get("Filters", ()):
            key = {"service-name": "ServiceName", "vpc-id": "VpcId"}[criterion["Name"]]
            endpoints = [endpoint for endpoint in endpoints if endpoint[key] in criterion["Values"]]
        found, token = page(endpoints, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 1000))
        return {"VpcEndpoints": list(found), **({"NextToken": token} if token else {})}

    def _open_policy(self, account: str, network: Network) -> str:
        """As GuardDuty's page has it: by account, or by organization where the VPC is shared."""
        key, value = "aws:PrincipalAccount", account
        if network.owner:
            key, value = "aws:PrincipalOrgID", self.world.spec.organization
        allow = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
        deny = {**allow, "Effect": "Deny", "Condition": {"StringNotEquals": {key: value}}}
        return json.dumps({"Version": "2012-10-17", "Statement": [allow, deny]})

    def ec2_DescribeNetworkInterfaces(self, call: Call, account: str) -> Mapping[str, Any]:
        interfaces = {
            _interface(network): {
                "NetworkInterfaceId": _interface(network),
                "SubnetId": network.endpoint_subnet,
                "VpcId": network.vpc,
                "PrivateIpAddress": network.endpoint_address,
                "InterfaceType": "vpc_endpoint",
                "RequesterManaged": True,
                "Status": "in-use",
                **_zone(call.region, network.endpoint_zone),
            }
            for network in self.world.owned_networks(account, call.region)
            if network.endpoint and network.endpoint_subnet
        }
        wanted = call.parameters["NetworkInterfaceIds"]
        if missing := sorted(set(wanted) - set(interfaces)):
            raise Refused(
                "InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{missing[0]}' does not exist"
            )
        return {"NetworkInterfaces": [interfaces[number] for number in wanted]}

    def ec2_DescribeNetworkAcls(self, call: Call, account: str) -> Mapping[str, Any]:
        (criterion,) = call.parameters["Filters"]
        acls = [
            {
                "NetworkAclId": f"acl-{subnet.removeprefix('subnet-')}",
                "VpcId": network.vpc,
                "OwnerId": account,
                "IsDefault": False,
                "Associations": [{"SubnetId": subnet, "NetworkAclId": f"acl-{subnet.removeprefix('subnet-')}"}],
                "Entries": _acl_entries(end, network),
            }
            for network in self.world.owned_networks(account, call.region)
            for end, subnet in (("host", network.subnet), ("endpoint", network.endpoint_subnet))
            if criterion["Name"] == "association.subnet-id" and subnet in criterion["Values"]
        ]
        return {"NetworkAcls": acls}

    def ec2_DescribeSecurityGroups(self, call: Call, account: str) -> Mapping[str, Any]:
        place = self._place(call, account)
        wanted = set(call.parameters.get("GroupIds", ()))
        outbound = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        groups = [
            _group(
                network.endpoint_group, network.vpc, [_rule(network.cidr)] if network.endpoint_open else [], outbound
            )
            for network in self.world.owned_networks(account, call.region)
            if network.endpoint_group
        ]
        groups += [_group(network.group, network.vpc, [], outbound) for network in place.networks]
        closed = {host.groups[0]: host.network.vpc for host in place.hosts if not host.egress_open}
        groups += [_group(group, vpc, [], []) for group, vpc in closed.items()]
        if missing := sorted(wanted - {group["GroupId"] for group in groups}):
            raise Refused("InvalidGroup.NotFound", f"The security group '{missing[0]}' does not exist")
        return {"SecurityGroups": [group for group in groups if not wanted or group["GroupId"] in wanted]}

    def ec2_DescribeImages(self, call: Call, account: str) -> Mapping[str, Any]:
        names = {image: name for _, _, image, name in SYSTEMS.values()}
        names |= {host.image: host.image_name for host in self._place(call, account).hosts}
        images = [
            {
                "ImageId": image,
                "Name": names[image],
                "CreationDate": "2026-11-05T00:00:00.000Z",
                "OwnerId": "591542846629",
            }
            for criterion in call.parameters.get("Filters", ())
            for image in criterion["Values"]
            if criterion["Name"] == "image-id" and image in names
        ]
        return {"Images": images}

    def _network(self, call: Call, account: str, vpc: str) -> Network:
        for network in self._place(call, account).networks:
            if network.vpc == vpc:
                return network
        raise Refused("InvalidVpcID.NotFound", f"The vpc ID '{vpc}' does not exist")

    def _owned(self, call: Call, account: str, vpc: str) -> Network:
        for network in self.world.owned_networks(account, call.region):
            if network.vpc == vpc:
                return network
        raise Refused("UnauthorizedOperation", "You are not authorized to perform this operation.", status=403)

    # ---- ECS

    def ecs_ListClusters(self, call: Call, account: str) -> Mapping[str, Any]:
        arns = [_cluster_arn(account, call.region, name) for name in self._place(call, account).clusters]
        found, token = page(arns, call.parameters.get("nextToken"), call.parameters.get("maxResults", 100))
        return {"clusterArns": list(found), **({"nextToken": token} if token else {})}

    def ecs_DescribeClusters(self, call: Call, account: str) -> Mapping[str, Any]:
        place, found, failures = self._place(call, account), [], []
        for name in call.parameters.get("clusters", ["default"]):
            cluster = place.clusters.get(name.rsplit("/", 1)[-1])
            if cluster is None:
                failures.append({"arn": name, "reason": "MISSING"})
                continue
            hosts = [host for host in place.hosts if host.cluster == cluster.name]
            found.append(
                {
                    "clusterArn": _cluster_arn(account, call.region, cluster.name),
                    "clusterName": cluster.name,
                    "status": "ACTIVE",
                    "registeredContainerInstancesCount": len(hosts),
                    "runningTasksCount": 3 * len(hosts) + sum(service.tasks for service in cluster.services),
                    "pendingTasksCount": 0,
                    "activeServicesCount": len(cluster.services) + bool(hosts),
                    "statistics": [
                        {"name": "activeFargateServiceCount", "value": str(len(cluster.services))},
                        {"name": "activeEC2ServiceCount", "value": str(int(bool(hosts)))},
                    ],
                    "tags": [{"key": "GuardDutyManaged", "value": cluster.tag}] if cluster.tag else [],
                }
            )
        return {"clusters": found, "failures": failures}

    def ecs_ListContainerInstances(self, call: Call, account: str) -> Mapping[str, Any]:
        cluster = self._cluster(call, account)
        arns = [
            f"{_cluster_arn(account, call.region, cluster.name).replace(':cluster/', ':container-instance/')}/{host.id}"
            for host in self._place(call, account).hosts
            if host.cluster == cluster.name
        ]
        found, token = page(arns, call.parameters.get("nextToken"), call.parameters.get("maxResults", 100))
        return {"containerInstanceArns": list(found), **({"nextToken": token} if token else {})}

    def ecs_DescribeContainerInstances(self, call: Call, account: str) -> Mapping[str, Any]:
        self._cluster(call, account)
        if len(call.parameters["containerInstances"]) > 100:
            raise Refused("InvalidParameterException", "at most 100 container instances")
        hosts = {host.id: host for host in self._place(call, account).hosts}
        found = []
        for arn in call.parameters["containerInstances"]:
            host = hosts[arn.rsplit("/", 1)[-1]]
            found.append(
                {
                    "containerInstanceArn": arn,
                    "ec2InstanceId": host.id,
                    "status": "ACTIVE",
                    "agentConnected": True,
                    "versionInfo": {"agentVersion": host.ecs_agent},
                    "attributes": [
                        {"name": "ecs.os-type", "value": host.platform},
                        {"name": "ecs.ami-id", "value": host.image},
                    ],
                }
            )
        return {"containerInstances": found, "failures": []}

    def ecs_ListServices(self, call: Call, account: str) -> Mapping[str, Any]:
        cluster = self._cluster(call, account)
        names = [service.name for service in cluster.services]
        if call.parameters.get("launchType", "FARGATE") == "FARGATE":
            arns = [_service_arn(account, call.region, cluster.name, name) for name in names]
        else:
            arns = []
        found, token = page(arns, call.parameters.get("nextToken"), call.parameters.get("maxResults", 10))
        return {"serviceArns": list(found), **({"nextToken": token} if token else {})}

    def ecs_DescribeServices(self, call: Call, account: str) -> Mapping[str, Any]:
        cluster = self._cluster(call, account)
        if len(call.parameters["services"]) > 10:
            raise Refused("InvalidParameterException", "at most 10 services")
        by_name = {service.name: service for service in cluster.services}
        found, failures = [], []
        for name in call.parameters["services"]:
            service = by_name.get(name.rsplit("/", 1)[-1])
            if service is None:
                failures.append({"arn": name, "reason": "MISSING"})
            else:
                found.append(self._service(service, call, account))
        return {"services": found, "failures": failures}

    def _service(self, service: Service, call: Call, account: str) -> dict[str, Any]:
        deploying = service.deploying_until is not None and self.world.clock.now() < service.deploying_until
        deployment = {
            "id": "ecs-svc/1",
            "status": "PRIMARY",
            "taskDefinition": _definition_arn(account, call.region, service),
            "desiredCount": service.tasks,
            "pendingCount": 1 if deploying else 0,
            "runningCount": service.tasks - 1 if deploying else service.tasks,
            "createdAt": service.deployed,
            "updatedAt": service.deployed,
            "launchType": "FARGATE",
            "platformVersion": service.platform_version,
            "platformFamily": service.family,
            "rolloutState": "IN_PROGRESS" if deploying else "COMPLETED",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": [service.network.subnet]}},
        }
        return {
            "serviceArn": _service_arn(account, call.region, service.cluster, service.name),
            "serviceName": service.name,
            "clusterArn": _cluster_arn(account, call.region, service.cluster),
            "status": "ACTIVE",
            "desiredCount": service.tasks,
            "runningCount": deployment["runningCount"],
            "pendingCount": deployment["pendingCount"],
            "launchType": "FARGATE",
            "platformVersion": service.platform_version,
            "platformFamily": service.family,
            "taskDefinition": deployment["taskDefinition"],
            "deployments": [deployment],
            "networkConfiguration": deployment["networkConfiguration"],
        }

    def ecs_UpdateService(self, call: Call, account: str) -> Mapping[str, Any]:
        cluster = self._cluster(call, account)
        name = call.parameters["service"].rsplit("/", 1)[-1]
        if name not in {service.name for service in cluster.services}:
            raise Refused("ServiceNotFoundException", "Service not found.")
        if call.parameters.get("forceNewDeployment"):
            self.world.redeployed[(account, call.region, cluster.name, name)] = self.world.clock.now()
            self.world.forget(account, call.region)
        service = next(service for service in self._cluster(call, account).services if service.name == name)
        return {"service": self._service(service, call, account)}

    def ecs_DescribeTaskDefinition(self, call: Call, account: str) -> Mapping[str, Any]:
        family = call.parameters["taskDefinition"].rsplit("/", 1)[-1].split(":")[0]
        for cluster in self._place(call, account).clusters.values():
            for service in cluster.services:
                if service.name == family:
                    definition: dict[str, Any] = {
                        "taskDefinitionArn": _definition_arn(account, call.region, service),
                        "family": family,
                        "revision": 3,
                        "networkMode": "awsvpc",
                        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
                        "containerDefinitions": [{"name": family, "image": "example"}],
                    }
                    if service.execution_role:
                        definition["executionRoleArn"] = f"arn:aws:iam::{account}:role/{service.execution_role}"
                    return {"taskDefinition": definition}
        raise Refused("ClientException", "Unable to describe task definition.")

    def ecs_TagResource(self, call: Call, account: str) -> Mapping[str, Any]:
        name = call.parameters["resourceArn"].rsplit("/", 1)[-1]
        for tag in call.parameters["tags"]:
            if tag["key"] == "GuardDutyManaged":
                self.world.cluster_tags[(account, call.region, name)] = tag["value"]
        self.world.forget(account, call.region)
        return {}

    def _cluster(self, call: Call, account: str) -> Cluster:
        name = call.parameters.get("cluster", "default").rsplit("/", 1)[-1]
        found = self._place(call, account).clusters.get(name)
        if found is None:
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        return found

    # ---- SSM

    def ssm_DescribeInstanceInformation(self, call: Call, account: str) -> Mapping[str, Any]:
        hosts = [host for host in self._place(call, account).hosts if host.ssm != "absent" and not host.operator]
        for criterion in call.parameters.get("Filters", ()):
            if criterion["Key"] == "InstanceIds":
                hosts = [host for host in hosts if host.id in criterion["Values"]]
        found, token = page(hosts, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 50))
        information = [
            {
                "InstanceId": host.id,
                "PingStatus": "Online" if host.ssm == "online" else "ConnectionLost",
                "LastPingDateTime": self.world.started,
                "AgentVersion": "3.3.3050.0",
                "PlatformType": "Windows" if host.platform == "windows" else "Linux",
                "PlatformName": host.os[0],
                "PlatformVersion": host.os[1],
            }
            for host in found
        ]
        return {"InstanceInformationList": information, **({"NextToken": token} if token else {})}

    def ssm_SendCommand(self, call: Call, account: str) -> Mapping[str, Any]:
        if call.parameters["DocumentName"] not in ("Ovenproof-LookInside", "AWS-RunShellScript"):
            raise Refused("InvalidDocument", "The specified SSM document doesn't exist.")
        ids = call.parameters.get("InstanceIds", ())
        online = {host.id for host in self._place(call, account).hosts if host.ssm == "online"}
        if len(ids) > 50 or set(ids) - online:
            raise Refused("InvalidInstanceId", "Instances not in a valid state for account")
        number = f"11111111-2222-3333-4444-{len(self._commands):012d}"
        self._commands[(account, call.region, number)] = tuple(ids)
        return {"Command": {"CommandId": number, "Status": "Pending", "InstanceIds": list(ids)}}

    def ssm_ListCommandInvocations(self, call: Call, account: str) -> Mapping[str, Any]:
        ids = self._commands.get((account, call.region, call.parameters["CommandId"]))
        if ids is None:
            raise Refused("InvalidCommandId", "")
        place = self._place(call, account)
        hosts = {host.id: host for host in place.hosts}
        found, token = page(ids, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 50))
        invocations = []
        for number in found:
            output = "" if hosts[number].platform == "windows" else json.dumps(seen_inside(place, hosts[number]))
            invocations.append(
                {
                    "CommandId": call.parameters["CommandId"],
                    "InstanceId": number,
                    "Status": "Success" if output else "Failed",
                    "CommandPlugins": [
                        {"Name": "lookInside", "Status": "Success", "ResponseCode": 0, "Output": output}
                    ],
                }
            )
        return {"CommandInvocations": invocations, **({"NextToken": token} if token else {})}

    # ---- CloudFormation: the endpoint stack

    def cloudformation_DescribeStacks(self, call: Call, account: str) -> Mapping[str, Any]:
        name = call.parameters.get("StackName", "")
        stack = self.world.stacks.get((account, call.region, name))
        if stack is None:
            raise Refused("ValidationError", f"Stack with id {name} does not exist")
        return {
            "Stacks": [
                {
                    "StackName": name,
                    "CreationTime": self.world.started,
                    "StackStatus": stack["status"],
                    "Parameters": [
                        {"ParameterKey": key, "ParameterValue": value}
                        for key, value in stack.items()
                        if key != "status"
                    ],
                }
            ]
        }

    def cloudformation_CreateStack(self, call: Call, account: str) -> Mapping[str, Any]:
        name = call.parameters["StackName"]
        parameters = {row["ParameterKey"]: row["ParameterValue"] for row in call.parameters.get("Parameters", ())}
        if (account, call.region, name) in self.world.stacks:
            raise Refused("AlreadyExistsException", f"Stack [{name}] already exists")
        network = self._network(call, account, parameters["Vpc"])
        self.world.stacks[(account, call.region, name)] = {**parameters, "status": "CREATE_COMPLETE"}
        self.world.endpoints_made[(account, call.region, network.vpc)] = f"vpce-0{network.vpc[-16:]}"
        self.world.forget(account, call.region)
        return {"StackId": f"arn:aws:cloudformation:{call.region}:{account}:stack/{name}/1"}

    def cloudformation_DeleteStack(self, call: Call, account: str) -> Mapping[str, Any]:
        stack = self.world.stacks.pop((account, call.region, call.parameters["StackName"]), None)
        if stack:
            self.world.endpoints_made.pop((account, call.region, stack["Vpc"]), None)
            self.world.forget(account, call.region)
        return {}


def seen_inside(place: Place, host: Host) -> dict[str, Any]:
    """What `look_inside.sh` prints on the host."""
    state = unit_state(place, host)
    looping = state == "restarting"
    return {
        "kernel": host.kernel,
        "os": " ".join(host.os),
        "btf": host.btf,
        "memlock_kib": host.memlock_kib if kernel_line(host) <= (5, 10) else 65536,
        "installed": bool(host.agent),
        "version": host.agent,
        "enabled": "enabled" if host.enabled else "disabled",
        "active": "activating" if looping else ("active" if state == "active" else "inactive"),
        "restarts": 4 if looping else 0,
        "window": 20,
        "reaches": reaches_guardduty(place, host),
    }


def _ec2_value(host: Host, name: str) -> str:
    return {"instance-state-name": "running", "vpc-id": host.network.vpc, "instance-id": host.id}[name]


def _zone(region: str, zone: str) -> dict[str, Any]:
    """A zone's id, and the name that accounts give to it."""
    area, *places, number = region.split("-")
    return {
        "AvailabilityZone": f"{region}{'abc'[int(zone[-1]) - 1]}",
        "AvailabilityZoneId": f"{area}{''.join(place[0] for place in places)}{number}-{zone}",
    }


def _instance(host: Host, account: str, region: str) -> dict[str, Any]:
    instance: dict[str, Any] = {
        "InstanceId": host.id,
        "InstanceType": host.type,
        "ImageId": host.image,
        "Architecture": host.architecture,
        "PlatformDetails": "Windows" if host.platform == "windows" else "Linux/UNIX",
        "LaunchTime": host.launched,
        "State": {"Name": "running", "Code": 16},
        "VpcId": host.network.vpc,
        "SubnetId": host.network.subnet,
        "Placement": {"Tenancy": "default", **_zone(region, host.zone)},
        "PrivateIpAddress": "10.0.0.9",
        "SecurityGroups": [{"GroupId": group, "GroupName": group} for group in host.groups],
        "MetadataOptions": {
            "State": "applied",
            "HttpEndpoint": "enabled" if host.imds else "disabled",
            "HttpTokens": "required",
            "InstanceMetadataTags": "enabled" if host.metadata_tags else "disabled",
        },
        "Tags": [{"Key": key, "Value": value} for key, value in host.tags.items()],
    }
    if host.platform == "windows":
        instance["Platform"] = "windows"
    if host.profile:
        instance["IamInstanceProfile"] = {
            "Arn": f"arn:aws:iam::{account}:instance-profile/{host.profile}",
            "Id": "AIPA0",
        }
    if host.operator:
        instance["Operator"] = {"Managed": True, "Principal": host.operator}
    return instance


def _group(group: str, vpc: str, inbound: list[Any], outbound: list[Any]) -> dict[str, Any]:
    return {
        "GroupId": group,
        "GroupName": group,
        "VpcId": vpc,
        "IpPermissions": inbound,
        "IpPermissionsEgress": outbound,
    }


def _rule(cidr: str) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": cidr}]}


def _interface(network: Network) -> str:
    """Id of the endpoint's one network interface."""
    return network.endpoint.replace("vpce-", "eni-")


def _acl_entries(end: str, network: Network) -> list[dict[str, Any]]:
    """Rules of one end's ACL: everything is let through but what the network's problem closes."""
    entries = []
    for egress, way in ((True, "out"), (False, "in")):
        anything = {"Protocol": "-1", "Egress": egress, "CidrBlock": "0.0.0.0/0"}
        step = f"{end}-{way}"
        if network.acl_closes == step:
            # somebody let ssh through only, or thought of 443 and not of the answers
            ports = {"From": 443, "To": 443} if step in ("endpoint-out", "host-in") else {"From": 22, "To": 22}
            rule = {"Protocol": "6", "Egress": egress, "CidrBlock": network.cidr, "RuleAction": "allow"}
            entries.append({**rule, "RuleNumber": 90, "PortRange": ports})
            if end == "host":
                entries.append({**anything, "RuleNumber": 95, "CidrBlock": network.cidr, "RuleAction": "deny"})
                entries.append({**anything, "RuleNumber": 100, "RuleAction": "allow"})
        else:
            entries.append({**anything, "RuleNumber": 100, "RuleAction": "allow"})
        entries.append({**anything, "RuleNumber": 32767, "RuleAction": "deny"})
    return entries


def _cluster_arn(account: str, region: str, name: str) -> str:
    return f"arn:aws:ecs:{region}:{account}:cluster/{name}"


def _service_arn(account: str, region: str, cluster: str, name: str) -> str:
    return f"arn:aws:ecs:{region}:{account}:service/{cluster}/{name}"


def _definition_arn(account: str, region: str, service: Service) -> str:
    return f"arn:aws:ecs:{region}:{account}:task-definition/{service.name}:3"
