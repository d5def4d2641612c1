# ecs-al2-kernel-5.10/arm64, rendered from images/ecs-node.pkr.hcl.j2: change that file, not this one.

packer {
  required_version = "= 1.16.0"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "= 1.8.2"
    }
  }
}

variable "region" {
  type        = string
  description = "Where the image is baked."
}

variable "bake_id" {
  type        = string
  description = "Names this bake in tags, in the record and inside the image."

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{3,63}$", var.bake_id))
    error_message = "The bake_id must be 4 to 64 letters, digits and hyphens."
  }
}

variable "owner" {
  type        = string
  description = "Who started the bake."

  validation {
    condition     = length(var.owner) > 0 && length(var.owner) <= 256
    error_message = "The owner must be 1 to 256 characters, which is what a tag takes."
  }
}

variable "expires_at" {
  type        = string
  description = "When the sweeper may remove what this bake left behind (UTC)."

  validation {
    condition     = can(regex("^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$", var.expires_at))
    error_message = "The expires_at must look like 2026-11-23T22:57:35Z."
  }
}

variable "deprecate_at" {
  type        = string
  description = "When EC2 stops offering the image to those who do not own it (UTC)."

  validation {
    condition     = can(regex("^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$", var.deprecate_at))
    error_message = "The deprecate_at must look like 2026-11-23T22:57:35Z."
  }
}

variable "image_name" {
  type        = string
  description = "The name of the image, which EC2 wants to be new."

  validation {
    condition     = can(regex("^[A-Za-z0-9()./_-]{3,128}$", var.image_name))
    error_message = "The image_name must be 3 to 128 letters, digits and any of ()./_-."
  }
}

variable "base_id" {
  type        = string
  description = "The base by id; the bake stops unless it also has the name base_name and belongs to Amazon."

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.base_id))
    error_message = "The base_id must be an image id such as ami-06524d4ef4a884456."
  }
}

variable "base_name" {
  type        = string
  description = "The base by name."
}

variable "agent_url" {
  type        = string
  description = "What stands before the version in the address of the GuardDuty agent's package."

  validation {
    condition     = can(regex("^https?://[^/]+[^ ]*[^/ ]$", var.agent_url))
    error_message = "The agent_url must be an http(s) address without a slash at its end."
  }
}

variable "agent_fingerprint" {
  type        = string
  description = "The one key whose signature of the package counts."

  validation {
    condition     = can(regex("^[0-9A-F]{40}$", var.agent_fingerprint))
    error_message = "The agent_fingerprint must be 40 capital hexadecimal digits."
  }
}

variable "images_dir" {
  type        = string
  description = "The folder of the provisioning scripts and of the dead-man timer, on the machine that runs Packer."
}

variable "stage_dir" {
  type        = string
  description = "The folder that is uploaded as /var/tmp/ovenproof."

  validation {
    condition     = can(regex("/ovenproof$", var.stage_dir))
    error_message = "The stage_dir must be an absolute path that ends in /ovenproof, the name the folder keeps."
  }
}

variable "work_dir" {
  type        = string
  description = "Where facts, manifest, SBOM and provenance go, on the machine that runs Packer."

  validation {
    condition     = can(regex("^/.*[^/]$", var.work_dir))
    error_message = "The work_dir must be an absolute path without a slash at its end."
  }
}

variable "signing_mode" {
  type        = string
  description = "How provenance and SBOM are signed: key (a PEM file) or kms."

  validation {
    condition     = contains(["key", "kms"], var.signing_mode)
    error_message = "The signing_mode must be key or kms: unsigned evidence is none."
  }
}

variable "signer" {
  type        = string
  description = "The path of a PEM private key, or awskms:// and a key's ARN."

  validation {
    condition     = length(var.signer) > 0
    error_message = "The signer must name a key."
  }
}

locals {
  stage = "/var/tmp/ovenproof"

  # On everything Packer makes, the image and its snapshot included from their first moment: an interrupted bake
  # leaves nothing that `./run sweep` does not know. A tag of an image is no tag of the instances launched from it,
  # so GuardDutyManaged=false holds for the builder alone, where it keeps AWS's own installer of the agent away.
  bake_tags = {
    BakeId           = var.bake_id
    Owner            = var.owner
    ExpiresAt        = var.expires_at
    GuardDutyManaged = "false"
  }

  image_tags = {
    Name           = var.image_name
    OvenproofState = "baked"
    Variant        = "ecs-al2-kernel-5.10/arm64"
    KernelLine     = "5.10"
    AgentVersion   = "1.17.1"
    BaseId         = var.base_id
    BaseName       = var.base_name
  }

  # What every script may rely on.
  script_env = {
    OVENPROOF_VARIANT           = "ecs-al2-kernel-5.10/arm64"
    OVENPROOF_ARCH              = "arm64"
    OVENPROOF_KERNEL_LINE       = "5.10"
    OVENPROOF_BAKE_ID           = var.bake_id
    OVENPROOF_BASE_ID           = var.base_id
    OVENPROOF_BASE_NAME         = var.base_name
    OVENPROOF_AGENT_VERSION     = "1.17.1"
    OVENPROOF_AGENT_FINGERPRINT = var.agent_fingerprint
    OVENPROOF_AGENT_URL         = var.agent_url
  }
}

source "amazon-ebs" "node" {
  region = var.region

  # The base: by id, and only if that image has this name and this owner.
  source_ami = var.base_id

  source_ami_filter {
    owners = ["amazon"]

    filters = {
      name                = var.base_name
      architecture        = "arm64"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  # The builder.
  instance_type               = "c6g.large"
  associate_public_ip_address = true
  shutdown_behavior           = "terminate"
  run_tags                    = merge(local.bake_tags, { Name = "builder of ${var.image_name}" })
  run_volume_tags             = local.bake_tags

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled" # where AWS's installer reads GuardDutyManaged
  }

  # Encrypted from the start, so that no second, encrypted copy has to be made at the end.
  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = 30
    encrypted             = true
    kms_key_id            = null
    delete_on_termination = true
  }

  # If Packer is killed, nobody stops the builder but itself.
  user_data = templatefile("${var.images_dir}/dead-man.boothook.tpl", { minutes = 90 })

  # The way in: a key pair that lives as long as the bake.
  communicator              = "ssh"
  ssh_interface             = "public_ip"
  ssh_port                  = 2222
  ssh_username              = "ec2-user"
  ssh_timeout               = "10m"
  ssh_read_write_timeout    = "5m" # a connection that died in a reboot is noticed; live ones exchange keep-alives
  ssh_clear_authorized_keys = true
  temporary_key_pair_type   = "ed25519"

  # Never the plugin's default, which is the whole internet.
  temporary_security_group_source_cidrs = ["127.0.0.0/8"]

  # What the builder's SSM agent needs for a session, and nothing else. The four of ssmmessages know no resource to
  # name; UpdateInstanceInformation could name the instance, whose id is not known before it runs.
  temporary_iam_instance_profile_policy_document {
    Version = "2012-10-17"

    Statement {
      Effect = "Allow"
      Action = [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
      ]
      Resource = ["*"]
    }
  }

  # The image. Nobody else may launch it: it is not proven yet.
  ami_name                = var.image_name
  ami_description         = "ecs-al2-kernel-5.10/arm64, GuardDuty agent 1.17.1, baked by Ovenproof from ${var.base_name}"
  ami_virtualization_type = "hvm"
  imds_support            = "v2.0"
  deprecate_at            = var.deprecate_at
  tags                    = local.image_tags
  snapshot_tags           = local.image_tags

  aws_polling {
    delay_seconds = 1
    max_attempts  = 900
  }
}

build {
  name    = "ecs-al2-kernel-5.10-arm64"
  sources = ["source.amazon-ebs.node"]

  provisioner "file" {
    source      = var.stage_dir
    destination = "/var/tmp"
  }

  provisioner "shell" {
    name                = "00-wait-for-boot"
    script              = "${var.images_dir}/provision/00-wait-for-boot.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "10-security-updates"
    script              = "${var.images_dir}/provision/10-security-updates.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "20-reboot-if-kernel-changed"
    script              = "${var.images_dir}/provision/20-reboot-if-kernel-changed.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
    expect_disconnect   = true
  }

  provisioner "shell" {
    name                = "25-prove-new-boot"
    script              = "${var.images_dir}/provision/25-prove-new-boot.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "30-install-agent"
    script              = "${var.images_dir}/provision/30-install-agent.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "40-harden"
    script              = "${var.images_dir}/provision/40-harden.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "50-install-checks"
    script              = "${var.images_dir}/provision/50-install-checks.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "60-run-checks"
    script              = "${var.images_dir}/provision/60-run-checks.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "70-collect-facts"
    script              = "${var.images_dir}/provision/70-collect-facts.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "file" {
    direction   = "download"
    source      = "${local.stage}/facts.json"
    destination = "${var.work_dir}/facts.json"
  }

  provisioner "file" {
    direction   = "download"
    source      = "${local.stage}/package-databases.tar.gz"
    destination = "${var.work_dir}/package-databases.tar.gz"
  }

  provisioner "shell-local" {
    name = "unpack-package-databases"
    env  = { work_dir = var.work_dir }
    inline = [
      "mkdir \"$work_dir/package-databases\"",
      "tar --extract --no-same-owner --file \"$work_dir/package-databases.tar.gz\" --directory \"$work_dir/package-databases\"",
    ]
  }

  provisioner "shell" {
    name                = "80-clean-up"
    script              = "${var.images_dir}/provision/80-clean-up.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  provisioner "shell" {
    name                = "90-last-look"
    script              = "${var.images_dir}/provision/90-last-look.sh"
    env                 = local.script_env
    execute_command     = "sudo -n env {{ .Vars }} bash {{ .Path }}"
    remote_folder       = "/var/tmp" # /tmp may be noexec, and is emptied by the reboot
    start_retry_timeout = "10m"
  }

  post-processor "manifest" {
    output     = "${var.work_dir}/manifest.json"
    strip_path = true
  }

  # Who made the image from what (SLSA), and what is in it (CycloneDX, by the scanner inside Packer, from the package
  # databases fetched above), both signed and both tied to the image's id. The provisioner hcp-sbom is not used: in
  # Packer 1.16 it fetches the newest Packer from the internet into the builder, and goes on without an SBOM if it
  # cannot.
  post-processor "provenance" {
    output_dir     = var.work_dir
    template       = "images/ecs-node.pkr.hcl.j2"
    sbom           = true
    sbom_format    = "cyclonedx"
    sbom_scan_path = "${var.work_dir}/package-databases"
    signing_mode   = var.signing_mode
    signer         = var.signer

    user_variables = {
      bake_id           = var.bake_id
      variant           = "ecs-al2-kernel-5.10/arm64"
      base_id           = var.base_id
      base_name         = var.base_name
      agent_version     = "1.17.1"
      agent_fingerprint = var.agent_fingerprint
    }
  }
}
