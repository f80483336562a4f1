//! The scripts that run in Redis, each of them at once or not at all.

use std::sync::LazyLock;

use redis::{Cmd, Script, ScriptInvocation, ToRedisArgs, Value};

use super::keys::Partition;

/// What a script did. The scripts say the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What it was asked for.
    Done,
    /// Nothing: the partition's era is not the one that this node knows.
    Closed,
    /// Nothing: this node was given up for lost.
    Gone,
    /// Nothing: there is a newer session.
    Newer,
    /// Of a dead node: nothing, it came back. Of a session: it has another place.
    Back,
    /// Nothing: the space has as many sessions as it may have.
    Full,
}

impl Outcome {
    pub(crate) fn of(value: &Value) -> Option<Self> {
        Some(match number(value)? {
            0 => Self::Done,
            1 => Self::Closed,
            2 => Self::Gone,
            3 => Self::Newer,
            4 => Self::Back,
            5 => Self::Full,
            _ => return None,
        })
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $($file:literal)+;)*) => {
        /// All of them, with their digests.
        pub(crate) struct Scripts {
            $($(#[$doc])* pub(crate) $name: Source,)*
        }

        /// All of them.
        pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($name: Source::new(concat!($(include_str!(concat!("scripts/", $file))),+)),)*
        });
    };
}

scripts! {
    claim = "common.lua" "claim.lua";
    place = "common.lua" "place.lua";
    hide = "common.lua" "hide.lua";
    unplace = "common.lua" "unplace.lua";
    release = "common.lua" "release.lua";
    forget = "common.lua" "forget.lua";
    reseat = "common.lua" "reseat.lua";
    bury = "common.lua" "bury.lua";
    open = "open.lua";
    back = "back.lua";
    doom = "doom.lua";
    beat = "beat.lua";
    condemn = "condemn.lua";
    buried = "buried.lua";
    bucket = "bucket.lua";
}

/// A script and its text.
pub(crate) struct Source {
    text: &'static str,
    script: Script,
}

impl Source {
    fn new(text: &'static str) -> Self {
        Self { text, script: Script::new(text) }
    }

    /// Begins a call in a partition.
    pub(crate) fn call(&'static self, partition: Partition) -> Call {
        Call { partition, source: self, keys: Vec::with_capacity(8), args: Vec::with_capacity(8) }
    }

    /// Makes a server know it, so that a pipeline can call it by its digest.
    pub(crate) fn load(&self) -> Cmd {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        load
    }
}

/// A call of a script.
pub(crate) struct Call {
    /// Where.
    pub(crate) partition: Partition,
    /// Of which.
    pub(crate) source: &'static Source,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

impl Call {
    /// Appends a key, which must be in the call's partition.
    pub(crate) fn key(mut self, key: Vec<u8>) -> Self {
        self.keys.push(key);
        self
    }

    /// Appends an argument.
    pub(crate) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.push(arg);
        self
    }

    /// Appends an argument.
    pub(crate) fn push(&mut self, arg: impl ToRedisArgs) {
        arg.write_redis_args(&mut self.args);
    }

    /// To be run on its own.
    pub(crate) fn invocation(&self) -> ScriptInvocation<'static> {
        let mut invocation = self.source.script.prepare_invoke();
        for key in &self.keys {
            invocation.key(key);
        }
        for arg in &self.args {
            invocation.arg(arg);
        }
        invocation
    }

    /// To be run in a pipeline, behind its [`Source::load`].
    pub(crate) fn command(&self) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.source.script.get_hash()).arg(self.keys.len());
        for part in self.keys.iter().chain(&self.args) {
            command.arg(part);
        }
        command
    }
}

/// The number that an answer holds, as such or as text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

/// The text that an answer holds.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The elements of an answer; none if it is not a list.
pub(crate) fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(elements) | Value::Set(elements) => elements,
        _ => &[],
    }
}
