//! Names of channels and keys, and the partitions that they stand in.
//!
//! A name is `PREFIX:{TAG}:WHAT…`. Redis Cluster places a name by what stands between the braces, so all names of a
//! partition are on one node: scripts may touch several of them, and one `SSUBSCRIBE` may list many. There are far
//! fewer partitions than peers, so subscribing to thousands of peers takes few commands, and far more than nodes, so
//! that they spread.

use std::fmt;

use heliograph_core::id::{GatewayId, PeerId, SpaceName};

use crate::Destination;

/// How many partitions there are. Fixed for ever: nodes of different versions must agree.
pub(crate) const PARTITIONS: u16 = 128;
/// How many slots a Redis Cluster has.
const SLOTS: u16 = 16_384;
const TAG_BYTES: usize = "{hg000}".len();

/// A part of all names that is served by one Redis node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Partition(u16);

impl Partition {
    /// Where a peer's channel is.
    pub(crate) fn of_peer(space: &SpaceName, peer: &PeerId) -> Self {
        // Names hold no control characters, so the zero byte keeps ("ab", "c") and ("a", "bc") apart.
        Self::of(crc16(crc16(crc16(0, space.as_str().as_bytes()), &[0]), peer.as_str().as_bytes()))
    }

    /// Where a space's channel is, and all that is kept of it.
    pub(crate) fn of_space(space: &SpaceName) -> Self {
        Self::of(crc16(0, space.as_str().as_bytes()))
    }

    /// Where a node's own channel is.
    pub(crate) fn of_gateway(gateway: &GatewayId) -> Self {
        Self::of(crc16(0, gateway.as_str().as_bytes()))
    }

    /// Where a destination's channel is.
    pub(crate) fn of_destination(destination: &Destination) -> Self {
        match destination {
            Destination::Peer(space, peer) => Self::of_peer(space, peer),
            Destination::Space(space) => Self::of_space(space),
            Destination::Gateway(gateway) => Self::of_gateway(gateway),
        }
    }

    /// Where a limit is counted.
    pub(crate) fn of_limit(name: &str) -> Self {
        Self::of(crc16(0, name.as_bytes()))
    }

    fn of(hash: u16) -> Self {
        Self(hash % PARTITIONS)
    }

    /// The partition with that number.
    pub(crate) fn at(index: usize) -> Option<Self> {
        u16::try_from(index).ok().filter(|&index| index < PARTITIONS).map(Self)
    }

    /// All partitions.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }

    /// Its number, 0 to 127.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The slot of a Redis Cluster that its names are in.
    pub(crate) fn slot(self) -> u16 {
        let tag = tag(TAGS[self.index()]);
        crc16(0, &tag[1..TAG_BYTES - 1]) % SLOTS
    }

    /// The partition of a name under `prefix`, read off its tag.
    pub(crate) fn of_name(prefix: &Prefix, name: &[u8]) -> Option<Self> {
        let tag = name.get(prefix.0.len() + 1..)?.get(..TAG_BYTES)?;
        let [b'{', b'h', b'g', digits @ .., b'}'] = tag else { return None };
        let number = std::str::from_utf8(digits).ok()?.parse::<usize>().ok()?;
        NUMBERS.get(number).copied().flatten().map(Self)
    }
}

const fn tag(number: u16) -> [u8; TAG_BYTES] {
    const fn digit(number: u16) -> u8 {
        b'0' + (number % 10) as u8
    }
    [b'{', b'h', b'g', digit(number / 100), digit(number / 10), digit(number), b'}']
}

/// The number in each partition's tag.
///
/// Nodes of a Redis Cluster hold ranges of slots. So the tag of partition `i` is the one of `hg000` to `hg999` whose
/// slot is nearest to the middle of the `i`th of 128 equal ranges: then equal nodes hold equally many partitions, give
/// or take one, however many nodes there are. Tags that are merely numbered hit some nodes twice as often as others.
const TAGS: [u16; PARTITIONS as usize] = {
    const RANGE: u16 = SLOTS / PARTITIONS;
    let mut tags = [0; PARTITIONS as usize];
    let mut distances = [u16::MAX; PARTITIONS as usize];
    let mut number = 0;
    while number < 1000 {
        let [_, inner @ .., _] = tag(number);
        let slot = crc16(0, &inner) % SLOTS;
        let partition = (slot / RANGE) as usize;
        let distance = (slot % RANGE).abs_diff(RANGE / 2);
        if distance < distances[partition] {
            distances[partition] = distance;
            tags[partition] = number;
        }
        number += 1;
    }
    tags
};

/// The partition of each tag's number.
const NUMBERS: [Option<u16>; 1000] = {
    let mut numbers = [None; 1000];
    let mut partition = 0;
    while partition < PARTITIONS {
        numbers[TAGS[partition as usize] as usize] = Some(partition);
        partition += 1;
    }
    numbers
};

/// CRC-16/XMODEM, with which Redis Cluster places names (Redis Cluster specification, appendix A).
const fn crc16(mut crc: u16, bytes: &[u8]) -> u16 {
    let mut i = 0;
    while i < bytes.len() {
        crc = (crc << 8) ^ CRC_TABLE[((crc >> 8) ^ bytes[i] as u16) as usize];
        i += 1;
    }
    crc
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// What all names begin with, so that installations can share a Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(Box<str>);

impl Prefix {
    /// At most 32 letters, digits, `-`, `_` and `.`: nothing that Redis Cluster could take for a tag.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        ((1..=32).contains(&text.len()) && text.bytes().all(good)).then(|| Self(text.into()))
    }

    /// `PREFIX:{TAG}:WHAT`: for what there is one of in each partition.
    pub(crate) fn name(&self, partition: Partition, what: &str) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.0.len() + TAG_BYTES + 2 + what.len());
        self.write_name(&mut name, partition, what);
        name
    }

    /// `PREFIX:{TAG}:WHAT:OF`. `of` may hold anything, as nothing follows it.
    pub(crate) fn name_of(&self, partition: Partition, what: &str, of: &str) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.0.len() + TAG_BYTES + 3 + what.len() + of.len());
        self.write_name(&mut name, partition, what);
        name.push(b':');
        name.extend_from_slice(of.as_bytes());
        name
    }

    fn write_name(&self, name: &mut Vec<u8>, partition: Partition, what: &str) {
        name.extend_from_slice(self.0.as_bytes());
        name.push(b':');
        name.extend_from_slice(&tag(TAGS[partition.index()]));
        name.push(b':');
        name.extend_from_slice(what.as_bytes());
    }

    /// Appends the channel of a destination.
    pub(crate) fn write_channel(&self, channel: &mut Vec<u8>, destination: &Destination) {
        let partition = Partition::of_destination(destination);
        match destination {
            Destination::Peer(space, peer) => {
                // The length says where the space ends, whatever colons it holds.
                self.write_name(channel, partition, "peer:");
                write_number(channel, space.as_str().len());
                for part in [":", space.as_str(), ":", peer.as_str()] {
                    channel.extend_from_slice(part.as_bytes());
                }
            }
            Destination::Space(space) => {
                self.write_name(channel, partition, "mesh:");
                channel.extend_from_slice(space.as_str().as_bytes());
            }
            Destination::Gateway(gateway) => {
                self.write_name(channel, partition, "gateway:");
                channel.extend_from_slice(gateway.as_str().as_bytes());
            }
        }
    }

    /// The channel of a destination.
    pub(crate) fn channel(&self, destination: &Destination) -> Vec<u8> {
        let mut channel = Vec::with_capacity(64);
        self.write_channel(&mut channel, destination);
        channel
    }

    /// The channel on which a node asks one Redis node whether it hears itself.
    pub(crate) fn probe(&self, partition: Partition, gateway: &GatewayId) -> Vec<u8> {
        self.name_of(partition, "probe", gateway.as_str())
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("hg".into())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends a number in decimal.
pub(crate) fn write_number(to: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        #[expect(clippy::cast_possible_truncation, reason = "a digit")]
        let digit = (rest % 10) as u8;
        digits[at] = b'0' + digit;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use heliograph_core::id::MeshName;

    use super::*;

    fn peer_channel(space: &str, peer: &str) -> String {
        let destination = Destination::Peer(SpaceName::parse(space).unwrap(), PeerId::parse(peer).unwrap());
        String::from_utf8(Prefix::default().channel(&destination)).unwrap()
    }

    #[test]
    fn checksums_are_those_of_the_specification() {
        assert_eq!(crc16(0, b"123456789"), 0x31C3);
    }

    #[test]
    fn equal_nodes_hold_equally_many_partitions() {
        for nodes in 3..=12_u32 {
            // As redis-cli deals slots out.
            let end = |node: u32| (f64::from(SLOTS) / f64::from(nodes) * f64::from(node)).round();
            let held = |node| {
                let range = end(node)..end(node + 1);
                Partition::all().filter(|p| range.contains(&f64::from(p.slot()))).count()
            };
            let held: Vec<usize> = (0..nodes).map(held).collect();
            let spread = held.iter().max().unwrap() - held.iter().min().unwrap();
            assert!(spread <= 1, "{nodes} nodes: {held:?}");
            assert_eq!(held.iter().sum::<usize>(), usize::from(PARTITIONS));
        }
    }

    #[test]
    fn tags_stay_as_they_are() {
        // Nodes of different versions must find one another's channels: these never change.
        assert_eq!(TAGS.iter().collect::<HashSet<_>>().len(), usize::from(PARTITIONS));
        let all: Vec<u8> = TAGS.iter().flat_map(|tag| tag.to_be_bytes()).collect();
        assert_eq!((TAGS[0], TAGS[127], crc16(0, &all)), (706, 92, 49_713));
    }

    #[test]
    fn names_of_channels_stay_as_they_are() {
        assert_eq!(peer_channel("default", "agent-1"), "hg:{hg501}:peer:7:default:agent-1");
        let mesh = Destination::Space(MeshName::default_mesh().into());
        assert_eq!(Prefix::default().channel(&mesh), b"hg:{hg202}:mesh:default");
        let hall = Destination::Space(SpaceName::parse("default\\hall").unwrap());
        assert!(Prefix::default().channel(&hall).ends_with(b":mesh:default\\hall"));
        let gateway = Destination::Gateway(GatewayId::parse("gw-1").unwrap());
        assert_eq!(Prefix::parse("blue").unwrap().channel(&gateway), b"blue:{hg729}:gateway:gw-1");
    }

    #[test]
    fn no_two_peers_share_a_channel() {
        let names = ["a", "b", "a:b", ":", "1:a", "a:1:a", "{hg000}", "a}", "ä", "a b", "*"];
        let mut seen = HashSet::new();
        for space in names {
            for peer in names {
                assert!(seen.insert(peer_channel(space, peer)), "{space} {peer}");
            }
        }
    }

    #[test]
    fn the_partition_can_be_read_off_every_name() {
        let prefix = Prefix::parse("p.1").unwrap();
        for partition in Partition::all() {
            let name = prefix.name_of(partition, "seats", "{x}");
            assert_eq!(Partition::of_name(&prefix, &name), Some(partition));
            assert_eq!(Partition::at(partition.index()), Some(partition));
        }
        for name in ["", "p.1", "p.1:", "p.1:{hg0", "p.1:{hg+01}:x", "p.1:{xx000}:x"] {
            assert_eq!(Partition::of_name(&prefix, name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn peers_spread_over_the_partitions() {
        let space = MeshName::default_mesh().into();
        let mut held = [0; PARTITIONS as usize];
        for i in 0..12_800 {
            let peer = PeerId::parse(&format!("agent-{i:05}")).unwrap();
            held[Partition::of_peer(&space, &peer).index()] += 1;
        }
        assert!(held.iter().all(|held| (50..=200).contains(held)), "{held:?}");
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 128, 65_536, usize::MAX] {
            let mut text = vec![];
            write_number(&mut text, number);
            assert_eq!(text, number.to_string().into_bytes());
        }
    }
}
