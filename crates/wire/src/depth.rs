//! How deep a JSON text nests, without parsing it.

/// Whether `json` nests at most `limit` objects and arrays.
///
/// Two passes for the usual frame: SDP holds almost no brackets, so counting them all settles it at memory speed.
pub(crate) fn is_within(json: &[u8], limit: usize) -> bool {
    opening_brackets(json) <= limit || max_depth(json) <= limit
}

/// Counted in bytes, in pieces too short to overflow one: the compiler makes vector instructions of it, which it does
/// not of a plain `count`, and this is run over every payload.
fn opening_brackets(json: &[u8]) -> usize {
    let in_piece =
        |piece: &[u8]| piece.iter().map(|&byte| u8::from(byte == b'{' || byte == b'[')).sum::<u8>();
    json.chunks(255).map(|piece| usize::from(in_piece(piece))).sum()
}

fn max_depth(json: &[u8]) -> usize {
    let (mut depth, mut max, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                max = max.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_brackets_of_any_number() {
        for length in [0, 1, 254, 255, 256, 1_000] {
            assert_eq!(opening_brackets(&vec![b'['; length]), length);
            assert_eq!(opening_brackets(&vec![b'x'; length]), 0);
        }
    }

    #[test]
    fn counts_nesting_and_not_text() {
        assert_eq!(max_depth(br#"{"a":[1,{"b":2}],"c":[]}"#), 3);
        assert_eq!(max_depth(br#"{"a":"[[[[\"[[[["}"#), 1);
        assert!(is_within(br"[[],[],[],[]]", 2));
        assert!(!is_within(&[b'['; 33], 32));
    }
}
