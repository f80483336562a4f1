//! `agent join`: from an invite code to a device token, over any interruption.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use heliograph_agent::Config;
use heliograph_agent::config::{ServerUrl, Surroundings};
use heliograph_agent::enrol::{Kept, Pairing, PairingFile};
use heliograph_auth::secret::Secret;
use serde_json::{Value, json};
use ureq::http::Method;

use super::run::{logging, until_signal};
use crate::api::{Api, DEFAULT_SERVER, Refusal};
use crate::cli::JoinArgs;
use crate::failure::Failure;
use crate::output;
use approval::{Approval, Patience};

mod approval;

pub(crate) fn run(args: &JoinArgs) -> Result<(), Failure> {
    let around = Surroundings::of_process();
    // What is wrong with the rest is better known before a code is used up.
    let log = logging(&args.local, &around)?;
    let socket = around.socket(args.local.socket.clone())?;
    let joining = Joining {
        server: around.server(args.server.as_deref())?,
        token: around.token_file(args.token_file.clone())?,
        patience: Patience::new(args.timeout.as_deref())?,
        args,
    };
    let kept = match joining.joined_before()? {
        Some(kept) => kept,
        None => joining.join()?,
    };
    if args.no_run {
        return Ok(());
    }
    let config = Config::of_device(kept, Some(socket), args.local.relay_only, &around)?;
    until_signal(config, &log)
}

struct Joining<'a> {
    /// The server, if anybody has named one.
    server: Option<ServerUrl>,
    /// Where the device token will be.
    token: PathBuf,
    patience: Patience,
    args: &'a JoinArgs,
}

impl Joining<'_> {
    /// The token of an earlier time, if it is still good: who starts a machine with `agent join` can start it again.
    fn joined_before(&self) -> Result<Option<Kept>, Failure> {
        let Some(kept) = Kept::read(&self.token)? else { return Ok(None) };
        self.must_be_here(&kept.server, "a device token")?;
        let header = ("x-device-token", kept.device_token.expose());
        match Api::anonymous(kept.server.as_str()).send(&Method::POST, "/api/token", &[header], None) {
            Ok(_) => {
                let path = self.token.display();
                let said =
                    format!("{} has joined {} before; its token is in {path}", kept.peer_id, kept.server);
                self.tell(
                    &said,
                    &json!({ "status": "approved", "peer_id": kept.peer_id, "token_file": self.token }),
                )?;
                Ok(Some(kept))
            }
            Err(error) if Refusal::of(&error).is_some_and(|refusal| matches!(refusal.status, 401 | 403)) => {
                let (peer, path) = (&kept.peer_id, self.token.display());
                output::note(&format!(
                    "{} no longer takes the token of {peer} in {path}; joining anew",
                    kept.server
                ));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn must_be_here(&self, at: &ServerUrl, what: &str) -> Result<(), Failure> {
        match &self.server {
            Some(server) if server != at => Err(Failure::usage(format!(
                "{} holds {what} of {at}, not of {server}; give another --token-file, or remove it",
                self.token.display()
            ))),
            _ => Ok(()),
        }
    }

    fn join(&self) -> Result<Kept, Failure> {
        let mut file = PairingFile::open(&self.token)?;
        if let Some(pairing) = file.pairing() {
            self.must_be_here(&pairing.server, "a pairing")?;
            self.go_on_with(pairing, &file)?;
            match self.approval(pairing)? {
                Approval::Given(token) => return self.keep(file, token),
                ended if self.has_another_code_than(pairing) => output::note(&ended.words(pairing)),
                ended => return Err(Self::ended(file, &ended)),
            }
        }
        let pairing = self.redeem()?;
        let pairing = file.keep(pairing)?;
        self.begin(pairing)?;
        match self.approval(pairing)? {
            Approval::Given(token) => self.keep(file, token),
            ended => Err(Self::ended(file, &ended)),
        }
    }

    /// Uses the code up.
    fn redeem(&self) -> Result<Pairing, Failure> {
        let code =
            self.args.code.as_deref().map(str::trim).filter(|code| !code.is_empty()).ok_or_else(|| {
                Failure::usage(
                    "this needs an invite code, which an administrator makes with `heliograph invite create`",
                )
            })?;
        let server = match &self.server {
            Some(server) => server.clone(),
            None => ServerUrl::parse("--server", DEFAULT_SERVER)?,
        };
        let name = self.args.name.clone().unwrap_or_else(host_name);
        let wish = json!({ "code": code, "agent_name": name });
        let answer =
            Api::anonymous(server.as_str()).send(&Method::POST, "/api/pairing/pair", &[], Some(&wish));
        let answer = answer.map_err(|error| match Refusal::of(&error) {
            Some(Refusal { status: 401, .. }) => {
                anyhow!(
                    "{server} does not take this code: it is wrong, used up or too old; ask for a new one"
                )
            }
            _ => error,
        })?;
        let member = |name: &str| {
            let value = answer.body[name].as_str().map(str::to_owned);
            value.with_context(|| format!("{server} answers without {name:?}: is it heliograph?"))
        };
        Ok(Pairing {
            code: Secret::new(code),
            id: member("id")?,
            peer_id: member("peer_id")?,
            claim_token: Secret::new(member("claim_token")?),
            server,
        })
    }

    fn begin(&self, pairing: &Pairing) -> Result<(), Failure> {
        let Pairing { server, id, peer_id, .. } = pairing;
        self.waits(&format!("Asked {server} to take this machine in, as {peer_id}."), id, pairing)
    }

    fn go_on_with(&self, pairing: &Pairing, file: &PairingFile) -> Result<(), Failure> {
        let Pairing { server, id, peer_id, .. } = pairing;
        if self.has_another_code_than(pairing) {
            let path = file.path().display();
            output::note(&format!(
                "a pairing is under way already, and the new code stays unused; to begin anew remove {path}"
            ));
        }
        self.waits(&format!("Going on with what {server} was asked before, as {peer_id}."), id, pairing)
    }

    fn waits(&self, what: &str, id: &str, pairing: &Pairing) -> Result<(), Failure> {
        let said = json!({
            "status": "pending_approval",
            "id": id,
            "peer_id": pairing.peer_id,
            "server": pairing.server.as_str(),
        });
        self.tell(
            &format!(
                "{what}\nAn administrator lets it in with:\n\n    heliograph peer approve {id}\n\nUntil then this waits. It \
                 can be interrupted; the same command goes on."
            ),
            &said,
        )
    }

    fn has_another_code_than(&self, pairing: &Pairing) -> bool {
        self.args.code.as_deref().is_some_and(|code| !pairing.code.matches(code.trim()))
    }

    fn approval(&self, pairing: &Pairing) -> Result<Approval, Failure> {
        approval::wait(pairing, &self.patience, self.args.json)
    }

    /// The token comes once: nothing stands between it and the disk.
    fn keep(&self, file: PairingFile, device_token: Secret) -> Result<Kept, Failure> {
        let Some(Pairing { server, peer_id, .. }) = file.pairing() else {
            return Err(anyhow!("a token came without a pairing").into());
        };
        let kept = Kept { server: server.clone(), peer_id: peer_id.clone(), device_token };
        kept.write(&self.token).with_context(|| {
            format!("the token came and cannot be kept: revoke {peer_id}, mend this and join with a new code")
        })?;
        // If this fails, the next join asks what became of the pairing, and hears that it is over.
        _ = file.forget();
        let said = format!("Approved. {} has its device token in {}", kept.peer_id, self.token.display());
        self.tell(
            &said,
            &json!({ "status": "approved", "peer_id": kept.peer_id, "token_file": self.token }),
        )?;
        Ok(kept)
    }

    /// Why there is no token. The pairing is over, so its file goes.
    fn ended(file: PairingFile, ended: &Approval) -> Failure {
        let words = file.pairing().map(|pairing| ended.words(pairing)).unwrap_or_default();
        match file.forget() {
            Ok(()) => anyhow!(words).into(),
            Err(error) => anyhow!("{words} ({error})").into(),
        }
    }

    fn tell(&self, words: &str, said: &Value) -> Result<(), Failure> {
        if self.args.json {
            return Ok(output::json_line(said)?);
        }
        Ok(words.lines().try_for_each(output::line)?)
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "agent".into() } else { name }
}
