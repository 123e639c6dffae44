#!/usr/bin/env bash
# Writes ~/autoscaling.yaml on a head on AWS: what `ray up` left, with the head's own image for the
# workers. They then equal the head to the last package, and the head needs no right to look images
# up: the role that Ray gives it may start machines, but read no parameter that names an image.
set -euo pipefail
about=http://169.254.169.254/latest
token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$about/api/token")
image=$(curl -sf -H "X-aws-ec2-metadata-token: $token" "$about/meta-data/ami-id")
sed "s|resolve:ssm:[^\"]*|$image|g" ~/ray_bootstrap_config.yaml > ~/autoscaling.yaml.new
mv ~/autoscaling.yaml.new ~/autoscaling.yaml
