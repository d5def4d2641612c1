"""This machine as the cloud: guests, the EC2 stand-in and the services around it. Loopback only."""
