//! What a test asks of a client.

use super::super::event::{End, Peer, What};
use super::{Client, Lines, MAX_DEAD, Next, advice};

/// What a test asks of a client.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Order {
    /// Break the connection.
    Reset,
    /// Look away.
    Abandon,
    /// Read everything that was written.
    ReadAll,
    /// Ask the service, without waiting for the answer: what is read after it was written after this moment.
    Ask,
    /// Send to these peers from now on, and to nobody else.
    WriteTo(Vec<Peer>),
    /// Send so many messages per second.
    Rate(f64),
    /// Close and end.
    Finish,
}

impl Client {
    /// Does what a test asks; `Err` when the connection is over with it.
    pub(super) async fn obey(&mut self, mut lines: Lines, order: Option<Order>) -> Result<Lines, Next> {
        match order {
            Some(Order::ReadAll) => match self.read_all(&mut lines).await {
                Ok(()) => Ok(lines),
                Err(end) => {
                    self.ended(&lines.newest, end);
                    Err(advice(end))
                }
            },
            Some(Order::Ask) => {
                self.ask(&mut lines).await;
                Ok(lines)
            }
            Some(Order::WriteTo(peers)) => {
                self.traffic.write_to(peers);
                Ok(lines)
            }
            Some(Order::Rate(rate)) => {
                self.options.rate = rate;
                Ok(lines)
            }
            Some(Order::Reset) => {
                self.ended(&lines.newest, End::Reset);
                Err(Next::Again)
            }
            Some(Order::Abandon) => {
                self.record(lines.newest.number, What::Abandoned);
                self.traffic.socket_ended(lines.newest.number);
                if self.dead.len() >= MAX_DEAD {
                    self.dead.remove(0);
                }
                self.dead.push(lines.newest);
                Err(Next::Again)
            }
            Some(Order::Finish) | None => {
                self.record(lines.newest.number, What::Ended(End::Finished));
                self.finished = true;
                lines.newest.close().await;
                Err(Next::Stay)
            }
        }
    }
}
