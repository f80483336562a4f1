//! What is where, for people and for scripts.

use heliograph_sandbox::RedisNode;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::gateway::Gateway;

/// One object: addresses, process ids, log files, the admin key.
pub(crate) fn json(cluster: &Cluster) -> Value {
    let gateways = cluster.gateways.iter().map(|gateway| {
        json!({
            "name": gateway.name(),
            "url": format!("http://{}", gateway.address()),
            "ops": format!("http://{}", gateway.ops()),
            "pid": gateway.process_id(),
            "log": gateway.log(),
        })
    });
    let nodes = cluster.redis.nodes().iter();
    json!({
        "url": format!("http://{}", cluster.balancer.address()),
        "admin_key": cluster.admin_key,
        "gateways": gateways.collect::<Vec<_>>(),
        "redis": {
            "url": cluster.redis.url(),
            "nodes": nodes.map(|node| json!({ "address": node.address(), "pid": node.process_id() })).collect::<Vec<_>>(),
        },
        "postgres": { "url": cluster.database, "pid": cluster.postgres.process_id() },
    })
}

/// A page for the terminal.
pub(crate) fn text(cluster: &Cluster) -> String {
    format!("\n{}\n{}\nCtrl-C stops all of it.\n", places(cluster), things_to_try(cluster))
}

fn places(cluster: &Cluster) -> String {
    let url = format!("http://{}", cluster.balancer.address());
    let mut lines = vec![
        format!("Load balancer  {url}"),
        format!("Console        {url}/console"),
        format!("Admin key      {}", cluster.admin_key),
        String::new(),
    ];
    for gateway in &cluster.gateways {
        lines.push(format!(
            "{:<14} http://{}  metrics http://{}/metrics  process {}",
            gateway.name(),
            gateway.address(),
            gateway.ops(),
            gateway.process_id()
        ));
        lines.push(format!("{:<14} log {}", "", gateway.log().display()));
    }
    lines.extend([
        String::new(),
        format!("Postgres       {}  process {}", cluster.database, id(cluster.postgres.process_id())),
        format!("Redis          {}", cluster.redis.url()),
    ]);
    for node in cluster.redis.nodes() {
        lines.push(format!("{:<14} {}  process {}", "", node.address(), id(node.process_id())));
    }
    lines.join("\n") + "\n"
}

fn things_to_try(cluster: &Cluster) -> String {
    let url = format!("http://{}", cluster.balancer.address());
    let (key, program) = (&cluster.admin_key, cluster.heliograph.display());
    let first = cluster.gateways.first();
    let process = id(first.map(Gateway::process_id));
    let gateway = first.map(|gateway| format!("http://{}", gateway.address())).unwrap_or_default();
    let redis = id(cluster.redis.nodes().first().and_then(RedisNode::process_id));
    let metrics: Vec<_> =
        cluster.gateways.iter().map(|gateway| format!("http://{}/metrics", gateway.ops())).collect();
    let metrics = metrics.join(" ");
    format!(
        "\
In another terminal:
  export HELIOGRAPH_SERVER={url} HELIOGRAPH_KEY={key}
  alias heliograph={program}

  heliograph key create camera-1 --role agent     a peer that connects with a key
  heliograph invite create                        a code with which a device pairs
  heliograph peer list                            who is there, and on which gateway
  heliograph peer revoke camera-1                 and which gateways acknowledged, in how many milliseconds
  curl -s -H \"x-api-key: $HELIOGRAPH_KEY\" $HELIOGRAPH_SERVER/api/gateways
                                                  the gateways and their leases
  curl -s -X POST -H \"x-api-key: $HELIOGRAPH_KEY\" {gateway}/api/gateways/self/drain
                                                  gateway-1 sends its clients away; -X DELETE takes it back
  watch -n1 'curl -s {metrics} | grep ^heliograph_sessions'

  kill -STOP {process}   a gateway that hangs: its lease runs out, the others go on; a revocation waits for it, no longer
  kill -CONT {process}
  kill -TERM {process}   a gateway that is replaced: it sends its clients away in an orderly way
  kill -KILL {process}   a gateway that crashes
  kill -STOP {redis}   Redis hangs: peers of the same gateway go on, the others are told bus_unavailable
  kill -CONT {redis}
"
    )
}

fn id(process: Option<u32>) -> String {
    process.map_or_else(|| "-".to_owned(), |id| id.to_string())
}
