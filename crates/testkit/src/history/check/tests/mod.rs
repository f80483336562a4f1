//! For every rule a history that breaks it and the nearest one that does not.

mod mutations;
mod script;

use std::time::Duration;

use super::super::event::{End, History, What};
use super::{Expectations, Introduced, Rule, Summary, check};
use script::Script;

/// The rules that a history breaks, each once.
fn broken(history: &History, expected: &Expectations) -> Vec<Rule> {
    let violations = check(history, expected).err().unwrap_or_default();
    assert!(violations.iter().all(|violation| !violation.to_string().is_empty()));
    let mut rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

fn quick() -> Expectations {
    Expectations {
        answer_within: Duration::from_secs(10),
        settle: Duration::from_secs(5),
        ..Expectations::default()
    }
}

/// Runs `script` in a mesh of `a`, `b` and `c`, and checks it at its end, when all deadlines have passed.
#[track_caller]
fn expect(rules: &[Rule], script: impl FnOnce(&mut Script)) {
    assert_eq!(broken(&history(script), &quick()), rules);
}

#[track_caller]
fn summary(script: impl FnOnce(&mut Script)) -> Summary {
    check(&history(script), &quick()).unwrap_or_else(|violations| panic!("{}", violations[0]))
}

fn history(script: impl FnOnce(&mut Script)) -> History {
    let mut made = Script::default();
    made.join("a", 0, 1, &[]);
    made.join("b", 0, 2, &["a"]);
    made.join("c", 0, 3, &["a", "b"]);
    script(&mut made);
    made.wait(60);
    made.end()
}

#[test]
fn a_good_history_is_counted() {
    let sums = summary(|s| {
        s.pass("a", "1", "b");
        s.send("b", "2", "x");
        s.told("b", "2", "unavailable");
        s.end_socket("c", 0, End::Code(1012));
    });
    assert_eq!((sums.sockets, sums.sent, sums.received, sums.delivered), (3, 2, 1, 1));
    assert_eq!(sums.undeliverable.get("unavailable"), Some(&1));
    assert_eq!(sums.ends.get(&End::Code(1012)), Some(&1));
    assert_eq!((sums.unsure, sums.open, sums.gone), (0, 0, 0));
}

#[test]
fn a_name_belongs_to_one_message() {
    expect(&[Rule::IdUsedTwice], |s| {
        s.pass("a", "1", "b");
        s.send("a", "1", "b");
    });
    expect(&[], |s| {
        s.pass("a", "1", "b");
        s.pass("a", "2", "b");
    });
}

#[test]
fn who_sent_what_to_whom() {
    expect(&[Rule::NeverSent], |s| s.received("b", "a", "1"));
    expect(&[Rule::WrongSender], |s| {
        s.send("a", "1", "b");
        s.received("b", "c", "1");
        s.told("a", "1", "delivered");
    });
    expect(&[Rule::WrongPeer], |s| {
        s.send("a", "1", "b");
        s.received("c", "a", "1");
        s.told("a", "1", "delivered");
    });
    expect(&[Rule::Corrupted], |s| {
        s.send("a", "1", "b");
        s.add("b", 0, What::Received { from: "a".into(), id: "1".into(), seq: None, hash: 77 });
        s.told("a", "1", "delivered");
    });
    expect(&[], |s| s.pass("a", "1", "b"));
}

#[test]
fn once_is_enough() {
    let twice = |s: &mut Script| {
        s.pass("a", "1", "b");
        s.received("b", "a", "1");
    };
    expect(&[Rule::Twice], twice);
    // On the next socket, of a session that resumes and of one that does not, it is the second time too.
    expect(&[Rule::Twice], |s| {
        s.pass("a", "1", "b");
        s.end_socket("b", 0, End::Reset);
        s.resume("b", 1, 4, 1, 0);
        s.received("b", "a", "1");
    });
    expect(&[Rule::Twice], |s| {
        s.pass("a", "1", "b");
        s.end_socket("b", 0, End::Reset);
        s.join("b", 1, 4, &["a", "c"]);
        s.received("b", "a", "1");
    });
    // What the client dropped by its number is no second time.
    expect(&[], |s| {
        s.send("a", "1", "b");
        s.numbered("b", "a", "1", 1);
        s.told("a", "1", "delivered");
        s.add("b", 0, What::Repeated { seq: 1 });
    });
}

#[test]
fn first_in_is_first_out() {
    let send_two = |s: &mut Script, second: u32| {
        s.send("a", "1", "b");
        s.on("a", second);
        s.send("a", "2", "b");
    };
    let told_both = |s: &mut Script| {
        s.told("a", "1", "delivered");
        s.told("a", "2", "delivered");
    };
    expect(&[Rule::OutOfOrder], |s| {
        send_two(s, 0);
        s.received("b", "a", "2");
        s.received("b", "a", "1");
        told_both(s);
    });
    expect(&[], |s| {
        send_two(s, 0);
        s.received("b", "a", "1");
        s.received("b", "a", "2");
        told_both(s);
    });
    // Also when either side was resumed in between.
    expect(&[Rule::OutOfOrder], |s| {
        s.send("a", "1", "b");
        s.end_socket("a", 0, End::Code(1012));
        s.resume("a", 1, 4, 0, 0);
        s.send("a", "2", "b");
        s.received("b", "a", "2");
        s.end_socket("b", 0, End::Reset);
        s.resume("b", 1, 5, 0, 0);
        s.received("b", "a", "1");
        told_both(s);
    });
    // Not when the sender began anew: nobody promises what becomes of what it had sent before.
    expect(&[], |s| {
        s.send("a", "1", "b");
        s.end_socket("a", 0, End::Reset);
        s.join("a", 1, 4, &["b", "c"]);
        s.send("a", "2", "b");
        s.received("b", "a", "2");
        s.received("b", "a", "1");
        s.told("a", "2", "delivered");
    });
    // Not between different senders.
    expect(&[], |s| {
        s.send("a", "1", "b");
        s.send("c", "2", "b");
        s.received("b", "c", "2");
        s.received("b", "a", "1");
        s.told("a", "1", "delivered");
        s.told("c", "2", "delivered");
    });
}

#[test]
fn nothing_is_lost_without_a_word() {
    expect(&[Rule::LostWithoutWord], |s| s.send("a", "1", "b"));
    expect(&[], |s| {
        s.send("a", "1", "b");
        s.told("a", "1", "expired");
    });
    // The service answered something later: it had read this one.
    expect(&[Rule::LostWithoutWord], |s| {
        s.send("a", "1", "b");
        s.pass("a", "2", "b");
        s.end_socket("a", 0, End::Reset);
        s.resume("a", 1, 4, 0, 0);
    });
    expect(&[Rule::LostWithoutWord], |s| {
        s.send("a", "1", "b");
        s.add("a", 0, What::Asked(9));
        s.add("a", 0, What::Answered(9));
        s.end_socket("a", 0, End::Code(1012));
        s.resume("a", 1, 4, 0, 0);
    });
}

#[test]
fn what_a_client_cannot_know_is_counted_only() {
    let unread = summary(|s| {
        s.send("a", "1", "b");
        s.end_socket("a", 0, End::Reset);
        s.resume("a", 1, 4, 0, 0);
    });
    assert_eq!(unread.unsure, 1);
    let anew = summary(|s| {
        s.send("a", "1", "b");
        s.pass("a", "2", "b");
        s.end_socket("a", 0, End::Reset);
        s.join("a", 1, 4, &["b", "c"]);
    });
    assert_eq!(anew.open, 1);
    let told_lost = summary(|s| {
        s.send("a", "1", "b");
        s.pass("a", "2", "b");
        s.end_socket("a", 0, End::Reset);
        s.resume("a", 1, 4, 0, 1);
    });
    assert_eq!((told_lost.gone, told_lost.lost), (1, 1));
    let mut early = Script::default();
    early.join("a", 0, 1, &[]);
    early.send("a", "1", "b");
    assert_eq!(check(&early.end(), &quick()).map(|sums| sums.open), Ok(1));
}

#[test]
fn an_answer_comes_also_for_what_arrived() {
    expect(&[Rule::Unanswered], |s| {
        s.send("a", "1", "b");
        s.received("b", "a", "1");
    });
}

#[test]
fn delivered_means_that_somebody_got_it() {
    let nobody = |s: &mut Script| {
        s.send("a", "1", "b");
        s.told("a", "1", "delivered");
    };
    expect(&[Rule::DeliveredToNobody], nobody);
    expect(&[Rule::DeliveredToNobody], |s| {
        nobody(s);
        s.end_socket("b", 0, End::Reset);
        s.resume("b", 1, 4, 0, 0);
    });
    expect(&[Rule::DeliveredToNobody], |s| {
        s.send("a", "1", "nobody");
        s.told("a", "1", "delivered");
    });
    // One may be missing where one was told lost, but not two.
    expect(&[], |s| {
        nobody(s);
        s.end_socket("b", 0, End::Reset);
        s.resume("b", 1, 4, 0, 1);
    });
    expect(&[Rule::DeliveredToNobody], |s| {
        nobody(s);
        s.send("a", "2", "b");
        s.told("a", "2", "delivered");
        s.end_socket("b", 0, End::Reset);
        s.resume("b", 1, 4, 0, 1);
    });
    let gone = summary(|s| {
        nobody(s);
        s.end_socket("b", 0, End::Reset);
        s.join("b", 1, 4, &["a", "c"]);
    });
    assert_eq!(gone.gone, 1);
    // The older session may have got it, but not when it should have ended long ago.
    let anew = |seconds| {
        move |s: &mut Script| {
            s.end_socket("b", 0, End::Reset);
            s.join("b", 1, 4, &["a", "c"]);
            s.wait(seconds);
            nobody(s);
        }
    };
    expect(&[], anew(4));
    expect(&[Rule::DeliveredToNobody], anew(6));
    // A session that began after the answer has nothing to do with it.
    expect(&[Rule::DeliveredToNobody], |s| {
        s.send("a", "1", "d");
        s.told("a", "1", "delivered");
        s.join("d", 0, 4, &["a", "b", "c"]);
        s.end_socket("d", 0, End::Reset);
    });
}

#[test]
fn the_last_word_is_true_and_the_last() {
    let arrived = |s: &mut Script, words: &[&str]| {
        s.send("a", "1", "b");
        s.received("b", "a", "1");
        for word in words {
            s.told("a", "1", word);
        }
    };
    expect(&[Rule::ToldLostButArrived], |s| arrived(s, &["unavailable"]));
    expect(&[], |s| {
        arrived(s, &["unavailable"]);
        s.end_socket("b", 0, End::Reset); // and nobody resumed: how far it had read is not known
    });
    expect(&[], |s| arrived(s, &["expired"]));
    expect(&[], |s| arrived(s, &["bus_unavailable", "delivered"]));
    expect(&[Rule::Contradiction], |s| arrived(s, &["delivered", "expired"]));
    expect(&[Rule::Contradiction], |s| arrived(s, &["delivered", "delivered"]));
    expect(&[Rule::StrangeVerdict], |s| {
        s.pass("a", "1", "b");
        s.told("c", "1", "expired");
    });
    expect(&[Rule::StrangeVerdict], |s| s.told("c", "1", "delivered"));
}

#[test]
fn numbers_have_no_holes() {
    let second_of = |lost: u64| {
        move |s: &mut Script| {
            s.send("a", "1", "b");
            s.end_socket("b", 0, End::Reset);
            s.resume("b", 1, 4, 0, lost);
            s.numbered("b", "a", "1", 2);
            s.told("a", "1", "delivered");
        }
    };
    expect(&[Rule::Gap], second_of(0));
    expect(&[], second_of(1));
    // Each session numbers anew.
    expect(&[], |s| {
        for (socket, id) in [(0, "1"), (1, "2")] {
            s.on("b", socket);
            if socket > 0 {
                s.join("b", socket, 4, &["a", "c"]);
            }
            s.send("a", id, "b");
            s.numbered("b", "a", id, 1);
            s.told("a", id, "delivered");
            s.end_socket("b", socket, End::Reset);
        }
    });
}

#[test]
fn a_first_session_resumes_nothing() {
    expect(&[Rule::ResumedNothing], |s| s.resume("d", 0, 4, 0, 0));
}

#[test]
fn a_peer_has_one_session() {
    expect(&[Rule::TwoLive], |s| s.join("a", 1, 4, &["b", "c"]));
    expect(&[Rule::TwoLive], |s| {
        s.join("a", 1, 4, &["b", "c"]);
        s.wait(6);
        s.end_socket("a", 0, End::Code(4409));
    });
    expect(&[], |s| {
        s.join("a", 1, 4, &["b", "c"]);
        s.wait(4);
        s.end_socket("a", 0, End::Code(4409));
    });
    expect(&[], |s| {
        s.add("a", 0, What::Abandoned);
        s.join("a", 1, 4, &["b", "c"]);
    });
    expect(&[Rule::TwoLive], |s| {
        s.join("b", 1, 4, &["a", "c"]);
        s.end_socket("b", 0, End::Code(4409));
        s.wait(6);
        s.on("b", 0);
        s.pass("a", "1", "b");
    });
}

#[test]
fn newer_sessions_have_higher_epochs() {
    let again = |epoch| {
        move |s: &mut Script| {
            s.end_socket("a", 0, End::Reset);
            s.join("a", 1, epoch, &["b", "c"]);
        }
    };
    expect(&[Rule::EpochWentBack], again(1));
    expect(&[], again(4));
}

#[test]
fn sockets_end_with_a_code_where_it_is_asked_for() {
    let codes = Expectations { codes: true, ..quick() };
    let ends = |end| history(|s| s.end_socket("a", 0, end));
    assert_eq!(broken(&ends(End::NoCode), &codes), [Rule::NoCode]);
    assert_eq!(broken(&ends(End::NoCode), &quick()), []);
    for end in [End::Code(1012), End::Reset, End::Finished] {
        assert_eq!(broken(&ends(end), &codes), []);
    }
}

#[test]
fn where_nothing_may_be_lost_every_word_of_loss_counts() {
    let all = Expectations { nothing_lost: true, ..quick() };
    let refused = history(|s| {
        s.send("a", "1", "b");
        s.told("a", "1", "unavailable");
    });
    assert_eq!(broken(&refused, &all), [Rule::Lost]);
    let resumed = |lost| {
        history(|s| {
            s.end_socket("a", 0, End::Code(1012));
            s.resume("a", 1, 4, 2, lost);
            s.pass("a", "1", "b");
        })
    };
    assert_eq!(broken(&resumed(1), &all), [Rule::Lost]);
    assert_eq!(broken(&resumed(0), &all), []);
    assert_eq!(broken(&refused, &quick()), []);
}

#[test]
fn each_pair_is_introduced_once() {
    let everyone = Expectations { introduced: Introduced::Everyone, ..quick() };
    let lists = |a: &[&str], b: &[&str]| {
        let mut s = Script::default();
        s.join("a", 0, 1, a);
        s.join("b", 0, 2, b);
        s.end()
    };
    assert_eq!(broken(&lists(&[], &["a"]), &everyone), []);
    assert_eq!(broken(&lists(&["b"], &[]), &everyone), []);
    assert_eq!(broken(&lists(&["b"], &["a"]), &everyone), [Rule::IntroducedTwice]);
    assert_eq!(broken(&lists(&[], &[]), &everyone), [Rule::NeverIntroduced]);
    assert_eq!(broken(&lists(&[], &[]), &quick()), []);
    let these = |names: &[&str]| Expectations {
        introduced: Introduced::These(names.iter().map(|name| (*name).into()).collect()),
        ..quick()
    };
    assert_eq!(broken(&lists(&[], &[]), &these(&["a"])), []);
    assert_eq!(broken(&lists(&[], &["a"]), &these(&["a", "c"])), [Rule::NeverIntroduced]);
    // `a` was away when `b` came, and learned of it when it was back.
    let away = |later: &[&str]| {
        let mut s = Script::default();
        s.join("a", 0, 1, &[]);
        s.join("b", 0, 2, &[]);
        s.list("a", 1, later);
        s.end()
    };
    assert_eq!(broken(&away(&["b"]), &everyone), []);
    assert_eq!(broken(&away(&["c"]), &everyone), [Rule::NeverIntroduced]);
    // `b` was there before and came back: both introductions are one each.
    let again = history(|s| {
        s.end_socket("b", 0, End::Reset);
        s.join("b", 1, 4, &["a", "c"]);
    });
    assert_eq!(broken(&again, &everyone), []);
}

#[test]
fn nothing_passes_after_a_revocation_was_answered() {
    let revoke = |s: &mut Script, peer: &str| s.add("admin", 0, What::RevokeAnswered(peer.into()));
    for peer in ["a", "b"] {
        expect(&[Rule::AfterRevoke], |s| {
            revoke(s, peer);
            s.pass("a", "1", "b");
        });
    }
    expect(&[], |s| {
        revoke(s, "c");
        s.pass("a", "1", "b");
    });
    let began = |first: bool| {
        move |s: &mut Script| {
            s.send("a", "1", "b");
            if first {
                s.add("node", 0, What::WriteBegan("1".into()));
            }
            revoke(s, "a");
            if !first {
                s.add("node", 0, What::WriteBegan("1".into()));
            }
            s.received("b", "a", "1");
            s.told("a", "1", "delivered");
        }
    };
    expect(&[Rule::AfterRevoke], began(false));
    expect(&[], began(true));
}

#[test]
fn what_lies_behind_an_answer_was_written_after_the_question() {
    let revoke = |s: &mut Script| s.add("admin", 0, What::RevokeAnswered("a".into()));
    // The message was under way when the revocation was answered; `b` asks before or after that.
    let history = |asks_first: bool, answered: bool| {
        move |s: &mut Script| {
            s.send("a", "1", "b");
            if asks_first {
                s.add("b", 0, What::Asked(1));
                revoke(s);
            } else {
                revoke(s);
                s.add("b", 0, What::Asked(1));
            }
            if answered {
                s.add("b", 0, What::Answered(1));
            }
            s.received("b", "a", "1");
            s.told("a", "1", "delivered");
        }
    };
    expect(&[Rule::AfterRevoke], history(false, true));
    expect(&[], history(true, true));
    expect(&[], history(false, false));
    // What comes on a socket was written after it was opened.
    let on_a_new_socket = |revoked_first: bool| {
        move |s: &mut Script| {
            s.send("a", "1", "b");
            s.end_socket("b", 0, End::Reset);
            if revoked_first {
                revoke(s);
            }
            s.resume("b", 1, 4, 1, 0);
            if !revoked_first {
                revoke(s);
            }
            s.received("b", "a", "1");
            s.told("a", "1", "delivered");
        }
    };
    expect(&[Rule::AfterRevoke], on_a_new_socket(true));
    expect(&[], on_a_new_socket(false));
}
