//! What is read from descriptions and candidates, and what is taken out of them (RFC 8839).

const CANDIDATE: &str = "a=candidate:";

/// The name of the first media section.
pub(super) fn mid(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=mid:"))
}

/// The ICE username fragment; another one with every restart (RFC 8839, 4.4.1.1.1).
pub(super) fn fragment(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"))
}

/// Whether this side can do something with a candidate of the other.
pub(super) fn is_usable(candidate: &str) -> bool {
    let mut words = candidate.split_ascii_whitespace().skip(2);
    let is_udp = words.next().is_some_and(|transport| transport.eq_ignore_ascii_case("udp"));
    let address = words.nth(1).unwrap_or_default();
    is_udp && address.parse::<std::net::IpAddr>().is_ok()
}

/// A description of the other side with no candidates but those that can be used.
pub(super) fn usable(sdp: &str) -> String {
    lines(sdp, |candidate| is_usable(candidate).then(|| candidate.to_owned()))
}

/// An own candidate as it may leave where only relays are used: a relay's, without the address behind it.
pub(super) fn relayed(candidate: &str) -> Option<String> {
    let mut words: Vec<&str> = candidate.split_ascii_whitespace().collect();
    let follows = |words: &[&str], name: &str| words.iter().position(|word| *word == name).map(|at| at + 1);
    let kind = follows(&words, "typ")?;
    if words.get(kind) != Some(&"relay") {
        return None;
    }
    for (name, nothing) in [("raddr", "0.0.0.0"), ("rport", "0")] {
        let at = follows(&words, name);
        if let Some(value) = at.and_then(|at| words.get_mut(at)) {
            *value = nothing;
        }
    }
    Some(words.join(" "))
}

/// An own description as it may leave where only relays are used.
pub(super) fn relay_only(sdp: &str) -> String {
    lines(sdp, relayed)
}

/// The description with each of its candidates replaced, or left out.
fn lines(sdp: &str, replace: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.split_inclusive('\n') {
        let Some(rest) = line.strip_prefix(CANDIDATE) else {
            out.push_str(line);
            continue;
        };
        if let Some(kept) = replace(rest.trim_end()) {
            out.push_str(CANDIDATE);
            out.push_str(&kept);
            out.push_str("\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_used_is_udp_with_an_address() {
        let check = |given: &str, expect: bool| assert_eq!(is_usable(given), expect, "{given}");
        check("candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host", true);
        check("candidate:1 1 UDP 2130706431 2001:db8::1 4000 typ host", true);
        check("candidate:1 1 udp 2130706431 8b4b4f6e-0000.local 4000 typ host", false);
        check("candidate:1 1 tcp 2130706431 192.0.2.1 22 typ host tcptype passive", false);
        check("", false);
        check("candidate:1 1 udp", false);
    }

    #[test]
    fn of_a_relay_only_side_no_address_but_the_relays_leaves() {
        let check =
            |given: &str, expect: Option<&str>| assert_eq!(relayed(given).as_deref(), expect, "{given}");
        check("candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host", None);
        check("candidate:1 1 udp 1 198.51.100.1 4000 typ srflx raddr 192.0.2.1 rport 5", None);
        check(
            "candidate:1 1 udp 1 198.51.100.1 4000 typ relay raddr 192.0.2.1 rport 5",
            Some("candidate:1 1 udp 1 198.51.100.1 4000 typ relay raddr 0.0.0.0 rport 0"),
        );
        check("candidate:1 1 udp 1 198.51.100.1 4000 typ", None);
        let sdp = "v=0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 4 typ host\r\na=candidate:2 1 udp 1 198.51.100.1 4 typ relay\r\nb=x\r\n";
        assert_eq!(
            relay_only(sdp),
            "v=0\r\na=mid:0\r\na=candidate:2 1 udp 1 198.51.100.1 4 typ relay\r\nb=x\r\n"
        );
    }
}
