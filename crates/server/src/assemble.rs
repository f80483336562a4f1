//! From configuration to parts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use heliograph_admin::Admin;
use heliograph_auth::keyfile::{KeyEntry, parse_key_file};
use heliograph_auth::secret::{self, Hasher, Purpose, Secret};
use heliograph_core::id::{MeshName, PeerId};
use heliograph_gateway::{Gateway, Metrics};
use heliograph_store::{By, NewKey, Page, Store, StoreError, UnixMillis};
use prometheus::Registry;

use crate::backends::{self, Neighbours};
use crate::config::{Config, KeyConfig, Mode, StorageConfig};
use crate::node::{Control, Parts};

/// The signing secret that `dev` makes for itself, in its data directory.
const SECRET_FILE: &str = "signing-secret";
/// Held locked by the one process that uses a data directory.
const LOCK_FILE: &str = "lock";
/// What the first administrator's key is called.
const ADMIN_NAME: &str = "First administrator";
/// The peer that the first administrator's key stands for.
const ADMIN_PEER: &str = "admin";

/// An assembled node, and the admin key if this start made one.
pub struct Assembled {
    /// What [`crate::Node::serve`] takes.
    pub parts: Parts,
    /// Shown once: only its hash is kept.
    pub new_admin_key: Option<Secret>,
}

/// Opens what the configuration names and puts it together.
pub async fn assemble(mode: Mode, config: Config) -> Result<Assembled> {
    // A node on a shared database keeps nothing for itself, and several may run in one folder.
    let own_files = config.storage.sqlite_file().is_some();
    let lock = if own_files { Some(prepare_data_dir(&config.storage)?) } else { None };
    let store = backends::open_store(&config.storage).await?;
    let mut assembled = assemble_with_store(mode, config, store).await?;
    assembled.parts.keep = lock;
    Ok(assembled)
}

/// Puts a node together on a store that is open already. The caller sees to it that the data directory exists and
/// that no other process uses it.
pub async fn assemble_with_store(mode: Mode, config: Config, store: Arc<dyn Store>) -> Result<Assembled> {
    let hasher = Arc::new(hasher(&*store).await?);
    let new_admin_key = seed_keys(mode, &config.keys, &*store, &hasher).await?;
    let tokens = config.tokens.build(mode, || own_secret(&config.storage.data_dir))?;
    let registry = Registry::new();
    register_process_metrics(&registry)?;
    let metrics = Metrics::register(&registry)?;
    let rate_limited = metrics.rate_limited();

    let id = secret::gateway_id(&mut rand::rng());
    let neighbours = Neighbours::join(config.storage.redis_url.as_ref(), &id, &registry)?;
    let trusted_proxies = config.listen.proxies();
    let allowed_origins: Vec<String> =
        config.listen.allowed_origins.iter().map(|origin| origin.as_str().to_owned()).collect();
    let gateway = Gateway::new(heliograph_gateway::Parts {
        id,
        config: heliograph_gateway::Config {
            limits: config.limits.clone(),
            lease_term: config.session.lease_term,
            resume_window: config.session.resume_window,
            drain_window: config.session.drain_window,
            allowed_origins: allowed_origins.clone(),
            trusted_proxies: trusted_proxies.clone(),
            ice: config.ice.build(),
            rooms: config.session.rooms.clone(),
        },
        link: neighbours.link(),
        store: Arc::clone(&store),
        tokens,
        hasher: Arc::clone(&hasher),
        metrics,
    });
    neighbours.attach(gateway.inbox());
    let admin_mode = match mode {
        Mode::Dev => heliograph_admin::Mode::Dev,
        Mode::Serve => heliograph_admin::Mode::Serve,
    };
    let admin = Admin::new(heliograph_admin::Parts {
        store,
        link: neighbours.link(),
        hasher,
        limits: config.limits.clone(),
        lease_term: config.session.lease_term,
        node: Arc::new(Control(Arc::clone(&gateway))),
        clock: Arc::new(unix_millis),
        registry,
        rate_limited,
        mode: admin_mode,
    })?;
    let parts = Parts {
        gateway,
        admin,
        mode: admin_mode,
        limits: config.limits,
        trusted_proxies,
        allowed_origins,
        neighbours,
        keep: None,
    };
    Ok(Assembled { parts, new_admin_key })
}

/// Makes the data directory and locks it; the lock is held as long as the file lives.
fn prepare_data_dir(storage: &StorageConfig) -> Result<File> {
    let dir = &storage.data_dir;
    let what_to_do =
        || format!("cannot use the data directory {}: choose another with --data-dir", dir.display());
    std::fs::create_dir_all(dir).with_context(what_to_do)?;
    let path = dir.join(LOCK_FILE);
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(path).with_context(what_to_do)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("the data directory {} is in use by another heliograph process", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(what_to_do),
    }
}

/// All nodes of an installation hash with one key, which the store keeps.
async fn hasher(store: &dyn Store) -> Result<Hasher> {
    let initial = Hasher::new_key(&mut rand::rng());
    let key = store.setting("secret_hash_key", &initial).await?;
    Hasher::from_stored(&key)
        .ok_or_else(|| anyhow!("the stored key for hashes has a wrong length: restore a backup"))
}

/// The keys that exist from the start: the operator's own, the seed's file, and in `dev` one made on first start.
async fn seed_keys(
    mode: Mode,
    keys: &KeyConfig,
    store: &dyn Store,
    hasher: &Hasher,
) -> Result<Option<Secret>> {
    if let Some(key) = &keys.bootstrap_admin_key {
        let what = "bootstrap_admin_key";
        import(store, hasher, &admin_entry(key.expose())?, ADMIN_NAME)
            .await
            .with_context(|| format!("cannot use {what}"))?;
    }
    if let Some(path) = &keys.api_keys_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let entries = parse_key_file(&text).with_context(|| format!("cannot use {}", path.display()))?;
        for (at, entry) in entries.iter().enumerate() {
            import(store, hasher, entry, "Imported")
                .await
                .with_context(|| format!("cannot import entry {} of {}", at + 1, path.display()))?;
        }
        tracing::info!(keys = entries.len(), "API keys imported");
    }
    if mode == Mode::Serve || has_admin_key(store).await? {
        return Ok(None);
    }
    let key = secret::api_key(&mut rand::rng());
    import(store, hasher, &admin_entry(key.expose())?, ADMIN_NAME).await?;
    Ok(Some(key))
}

async fn has_admin_key(store: &dyn Store) -> Result<bool> {
    let mut page = Page { cursor: None, limit: 500 };
    loop {
        let keys = store.keys(None, page).await?;
        if keys.rows.iter().any(|key| key.role == "admin" && key.revoked_at.is_none()) {
            return Ok(true);
        }
        let Some(next) = keys.next else { return Ok(false) };
        page = Page { cursor: Some(next), limit: 500 };
    }
}

fn admin_entry(key: &str) -> Result<KeyEntry> {
    Ok(KeyEntry {
        secret: Secret::new(key),
        peer: PeerId::parse(ADMIN_PEER)?,
        role: "admin".to_owned(),
        mesh: MeshName::default_mesh(),
    })
}

async fn import(store: &dyn Store, hasher: &Hasher, entry: &KeyEntry, name: &str) -> Result<()> {
    let key = NewKey {
        id: secret::api_key_id(&mut rand::rng()),
        secret: hasher.hash(Purpose::ApiKey, entry.secret.expose()),
        mesh: entry.mesh.clone(),
        peer: entry.peer.clone(),
        role: entry.role.clone(),
        name: name.to_owned(),
    };
    match store.create_key(key, By { actor: "system", now: unix_millis() }).await {
        Ok(_) => Ok(()),
        Err(StoreError::Exists) => bail!("the key exists already, for another peer or role, or was revoked"),
        Err(StoreError::Conflict(state)) => {
            bail!("its peer {} is {} and cannot have a key", entry.peer, state.as_str())
        }
        Err(error) => Err(error.into()),
    }
}

/// The secret that `dev` made at its first start, readable by its user alone.
fn own_secret(data_dir: &Path) -> Result<Secret> {
    let path = data_dir.join(SECRET_FILE);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let in_file = || format!("cannot keep the signing secret in {}", path.display());
    match options.open(&path) {
        Ok(mut file) => {
            let made = secret::api_key(&mut rand::rng());
            let also = secret::api_key(&mut rand::rng());
            let text = format!("{}{}", made.expose(), also.expose());
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(in_file)?;
            Ok(Secret::new(text))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut text = String::new();
            File::open(&path).and_then(|mut file| file.read_to_string(&mut text)).with_context(in_file)?;
            Ok(Secret::new(text.trim()))
        }
        Err(error) => Err(error).with_context(in_file),
    }
}

fn register_process_metrics(registry: &Registry) -> Result<()> {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process))?;
    let info = prometheus::IntGaugeVec::new(
        prometheus::Opts::new(
            "heliograph_build_info",
            "1, with the version and revision of this build as labels",
        ),
        &["version", "revision"],
    )?;
    registry.register(Box::new(info.clone()))?;
    info.with_label_values(&[
        env!("CARGO_PKG_VERSION"),
        option_env!("HELIOGRAPH_REVISION").unwrap_or("unknown"),
    ])
    .set(1);
    Ok(())
}

fn unix_millis() -> UnixMillis {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| UnixMillis::try_from(since.as_millis()).unwrap_or(UnixMillis::MAX))
}
