//! The current cameras: those of the configuration file, those added on the page, or the simulated one if there are
//! none. Applies changes to the running streams and touches only what changed. The rules for who may watch a camera
//! are collected here and evaluated by [`crate::accounts::permissions`]. It serves no viewer itself. Start at
//! [`Cameras::refresh`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::Mutex;
use tracing::{error, info, warn};
use url::Url;

use crate::accounts::cameras::StoredCamera;
use crate::accounts::permissions::{CameraRule, Subject};
use crate::accounts::{AccountError, Accounts};
use crate::config::{self, CameraConfig, Config};
use crate::demo::{DemoCamera, DemoOptions};
use crate::media::Engine;
use crate::names::StreamName;
use crate::streams::layer::Layer;
use crate::streams::source::{SourceSpec, TlsTrust, Transport};
use crate::streams::spec::StreamSpec;
use crate::streams::status::StreamStatus;
use crate::streams::{StreamHandle, Streams};

/// A camera as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct CameraView {
    /// Its name in URLs.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// Its stream, as in `/whep/{stream}`.
    pub stream: String,
    /// Whether it is connected only while somebody watches.
    pub on_demand: bool,
    /// Whether it can be watched without a login.
    pub public: bool,
    /// Its status.
    #[serde(flatten)]
    pub status: StreamStatus,
    /// The status of its sub stream, if it has one.
    pub sub: Option<StreamStatus>,
}

/// Where a camera is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In the configuration file.
    File,
    /// On the page.
    Page,
    /// The simulated camera.
    Demo,
}

/// A known camera, enabled or not.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its configuration.
    pub config: CameraConfig,
    /// Where it is configured.
    pub origin: Origin,
    /// Who may watch it.
    pub rule: CameraRule,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Cameras {
    streams: Streams,
    engine: Engine,
    accounts: Accounts,
    entries: Arc<ArcSwap<Vec<Arc<Entry>>>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    file: Vec<CameraConfig>,
    check_interval: Duration,
    demo: Option<DemoCamera>,
}

impl Cameras {
    /// Without any cameras yet.
    pub fn new(streams: Streams, engine: Engine, accounts: Accounts) -> Self {
        Self { streams, engine, accounts, entries: Arc::default(), state: Arc::default() }
    }

    /// Applies the cameras of a configuration, and the current ones of the page.
    ///
    /// # Errors
    /// The database cannot be read: nothing is changed.
    pub async fn apply(&self, config: &Config) -> Result<(), AccountError> {
        let mut state = self.state.lock().await;
        state.file.clone_from(&config.cameras);
        state.check_interval = config.media.check_interval;
        drop(state);
        self.refresh().await?;
        // The file may have revoked a camera from current viewers: their sessions must be reviewed.
        self.accounts.change();
        Ok(())
    }

    /// Applies the current cameras and allow lists of the page.
    ///
    /// # Errors
    /// The database cannot be read: nothing is changed.
    pub async fn refresh(&self) -> Result<(), AccountError> {
        let mut state = self.state.lock().await;
        let stored = self.accounts.cameras().await?;
        let lists = self.accounts.camera_lists().await?;
        let mut entries: Vec<Entry> = Vec::new();
        for config in &state.file {
            entries.push(entry(config.clone(), Origin::File, &lists));
        }
        for camera in stored {
            if entries.iter().any(|entry| entry.config.id == camera.id) {
                warn!(camera = camera.id, "camera of the page ignored: the file has one with the same id");
            } else if let Some(mut config) = from_page(camera) {
                config.spec.check_interval = state.check_interval;
                entries.push(entry(config, Origin::Page, &lists));
            }
        }
        if !entries.is_empty() {
            if let Some(camera) = state.demo.take() {
                camera.stop().await;
            }
        } else if let Some(config) = start_demo(&mut state.demo).await {
            entries.push(entry(config, Origin::Demo, &lists));
        }
        self.run(entries);
        Ok(())
    }

    fn run(&self, entries: Vec<Entry>) {
        let enabled = entries.iter().filter(|entry| entry.config.enabled);
        let specs: Vec<_> = enabled
            .filter_map(|entry| Some((entry.config.stream_id()?, entry.config.spec.clone())))
            .collect();
        let cameras = specs.len();
        let change = self.streams.set(specs);
        self.entries.store(Arc::new(entries.into_iter().map(Arc::new).collect()));
        for number in &change.ended {
            self.engine.end_stream(*number);
        }
        if change.started > 0 || !change.ended.is_empty() {
            info!(cameras, started = change.started, ended = change.ended.len(), "cameras configured");
        }
    }

    /// All known cameras: first those of the file in its order, then those of the page.
    pub fn entries(&self) -> Arc<Vec<Arc<Entry>>> {
        self.entries.load_full()
    }

    /// One camera, if it is enabled.
    pub fn get(&self, id: &str) -> Option<Arc<Entry>> {
        self.entries.load().iter().find(|entry| entry.config.id == id && entry.config.enabled).cloned()
    }

    /// The enabled cameras whose rule satisfies `fits`.
    pub fn list(&self, fits: impl Fn(&CameraRule) -> bool) -> Vec<CameraView> {
        let entries = self.entries.load();
        let shown = entries.iter().filter(|entry| entry.config.enabled && fits(&entry.rule));
        shown.filter_map(|entry| self.view(entry)).collect()
    }

    /// The camera of a stream.
    pub fn of_stream(&self, id: &StreamName) -> Option<Arc<Entry>> {
        self.get(id.camera_id()?)
    }

    /// The stream with this name.
    pub fn stream(&self, id: &StreamName) -> Option<StreamHandle> {
        self.streams.get(id)
    }

    /// A camera as the API shows it.
    pub fn view(&self, entry: &Entry) -> Option<CameraView> {
        let stream = entry.config.stream_id()?;
        let handle = self.streams.get(&stream)?;
        Some(CameraView {
            id: entry.config.id.clone(),
            name: entry.config.name.clone(),
            stream: stream.to_string(),
            on_demand: entry.config.spec.on_demand,
            public: entry.rule.public,
            status: handle.combined_status(),
            sub: handle.layer(Layer::Sub).map(|sub| sub.combined_status()),
        })
    }
}

/// The file's allow list takes precedence over the page's, and that over the default.
fn entry(config: CameraConfig, origin: Origin, lists: &HashMap<String, Vec<Subject>>) -> Entry {
    let allow = config.allow.clone().or_else(|| lists.get(&config.id).cloned());
    let (public, publish) = (config.public, config.publish.clone());
    let rule = CameraRule { id: config.id.clone(), public, allow, publish };
    Entry { config, origin, rule }
}

/// Stored cameras were validated when they were added; those that this version cannot read are skipped.
fn from_page(camera: StoredCamera) -> Option<CameraConfig> {
    let StoredCamera { id, settings, password } = camera;
    let url = Url::parse(&settings.url).ok()?;
    let transport = match settings.transport.as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => Transport::Auto,
    };
    let source = config::source(url, settings.username, password, None, transport);
    let sub = settings.sub_url.and_then(|sub| config::sub_source(&source, Url::parse(&sub).ok()?));
    let mut spec = StreamSpec::new(source, settings.on_demand);
    spec.sub = sub.map(Box::new);
    let (name, enabled, public) = (settings.name, settings.enabled, settings.public);
    Some(CameraConfig { id, name, enabled, public, allow: None, publish: None, spec })
}

/// Starts the simulated camera that is shown while none is configured.
async fn start_demo(slot: &mut Option<DemoCamera>) -> Option<CameraConfig> {
    if slot.is_none() {
        match DemoCamera::start(([127, 0, 0, 1], 0).into(), DemoOptions::default()).await {
            Ok(camera) => *slot = Some(camera),
            Err(error) => error!("cannot start the simulated camera: {error}"),
        }
    }
    let url = Url::parse(&slot.as_ref()?.url()).ok()?;
    let (transport, tls, follow) = (Transport::Tcp, TlsTrust::System, Vec::new());
    let source = SourceSpec::Rtsp { url, credentials: None, transport, tls, follow };
    let spec = StreamSpec::new(source, true);
    let (id, name) = ("demo".into(), "Demo".into());
    Some(CameraConfig { id, name, enabled: true, public: false, allow: None, publish: None, spec })
}
