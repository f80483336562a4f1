//! Reading lines, however they arrive.

use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::super::lines::{Lines, Read};

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Line(Vec<u8>),
    TooLong,
}

async fn read(first: &[u8], second: &[u8], most: usize) -> Vec<Seen> {
    let mut lines = Lines::new(first.chain(second), most);
    let mut seen = vec![];
    loop {
        seen.push(match lines.next().await.unwrap() {
            Read::Line(line) => Seen::Line(line.to_vec()),
            Read::TooLong => Seen::TooLong,
            Read::End => return seen,
        });
    }
}

#[tokio::test]
async fn lines_end_with_their_end_or_with_the_program() {
    let check = async |given: &str, expect: &[Seen]| {
        assert_eq!(read(given.as_bytes(), b"", 4).await, expect, "{given:?}");
    };
    let line = |text: &str| Seen::Line(text.as_bytes().to_vec());
    check("", &[]).await;
    check("\n", &[line("")]).await;
    check("a\n\nb", &[line("a"), line(""), line("b")]).await;
    check("abcd\nabcde\nabcd", &[line("abcd"), Seen::TooLong, line("abcd")]).await;
    check("abcde", &[Seen::TooLong]).await;
    check("a\r\n", &[line("a\r")]).await;
}

proptest! {
    #[test]
    fn where_reads_fall_changes_nothing(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60), cut in 0_usize..60,
    ) {
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = runtime.block_on(read(first, second, 8));
        let mut expect: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        if expect.last().is_some_and(|last| last.is_empty()) {
            expect.pop();
        }
        let expect = expect.into_iter().map(|line| match line.len() {
            0..=8 => Seen::Line(line.to_vec()),
            _ => Seen::TooLong,
        });
        prop_assert_eq!(seen, expect.collect::<Vec<_>>());
    }
}
