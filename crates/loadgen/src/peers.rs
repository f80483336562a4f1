//! Who takes part: names, meshes, keys, and the file that enrols them.

use serde_json::json;

/// A peer of the swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its id, unique across meshes so that the bare relay, which has none, tells all apart.
    pub id: String,
    /// Its mesh.
    pub mesh: String,
}

impl Peer {
    /// Its API key.
    pub fn key(&self) -> String {
        // As long as a real one: lookups hash it whole.
        format!("ak_loadgenerator_key_of_{:0>16}", self.id)
    }
}

/// `count` peers in meshes of `per_mesh`.
pub fn roster(count: usize, per_mesh: usize) -> Vec<Peer> {
    (0..count)
        .map(|index| Peer {
            id: format!("peer-{index:05}"),
            mesh: format!("mesh-{:04}", index / per_mesh.max(1)),
        })
        .collect()
}

/// The `api_keys.json` that enrols `peers`.
pub fn key_file(peers: &[Peer]) -> String {
    let keys: serde_json::Map<_, _> = peers
        .iter()
        .map(|peer| (peer.key(), json!({"peer_id": peer.id, "role": "agent", "mesh": peer.mesh})))
        .collect();
    json!({ "keys": keys }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meshes_fill_up_one_after_the_other() {
        let peers = roster(25, 10);
        assert_eq!((peers[9].mesh.as_str(), peers[10].mesh.as_str()), ("mesh-0000", "mesh-0001"));
        assert_eq!(peers[24], Peer { id: "peer-00024".into(), mesh: "mesh-0002".into() });
        assert!(roster(3, 0).iter().all(|peer| !peer.mesh.is_empty()));
    }

    #[test]
    fn every_peer_has_its_own_key() {
        let file: serde_json::Value = serde_json::from_str(&key_file(&roster(20, 10))).unwrap();
        let keys = file["keys"].as_object().unwrap();
        assert_eq!(keys.len(), 20);
        assert_eq!(keys["ak_loadgenerator_key_of_000000peer-00019"]["mesh"], "mesh-0001");
    }
}
