#!/bin/sh
# Secrets for docker-compose.yml, new ones each time:
#
#   (umask 077 && deploy/env.sh > .env)
#
# Keep the file for as long as the volumes of the databases live.
set -eu

# So many random bytes, in hexadecimal.
random() {
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

cat <<END
# Made by deploy/env.sh. Whoever can read this can do everything.
HELIOGRAPH_SIGNING_SECRET=$(random 32)
HELIOGRAPH_BOOTSTRAP_ADMIN_KEY=ak_$(random 16)
HELIOGRAPH_TURN_SECRET=$(random 32)
POSTGRES_PASSWORD=$(random 16)
REDIS_PASSWORD=$(random 16)
GRAFANA_PASSWORD=$(random 12)

# Addresses of the gateways and the load balancer, without the last number. Another one if it is taken here.
SUBNET=172.31.86
# Where it can be reached. 0.0.0.0 lets other machines in.
BIND=127.0.0.1
# For the profile turn: the address of this machine as browsers see it, and whom the relay may reach beside public
# addresses (docs/turn.md). It is never 127.0.0.1 if anything is to be relayed: coturn sends nothing there.
TURN_ADDRESS=127.0.0.1
END
