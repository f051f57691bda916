//! The cameras that are there now: those of the configuration, or the simulated one while there is none. Applies
//! a new configuration to the running streams and touches only what changed. It serves no viewer itself.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::Mutex;
use tracing::{error, info};
use url::Url;

use crate::config::{CameraConfig, Config};
use crate::ids::StreamId;
use crate::media::Engine;
use crate::streams::demo::{DemoCamera, DemoOptions};
use crate::streams::source::{SourceSpec, Transport};
use crate::streams::status::StreamStatus;
use crate::streams::stream::StreamSpec;
use crate::streams::{StreamHandle, Streams};

/// A camera as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct CameraView {
    /// Its name in addresses.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Its stream, as in `/whep/{stream}`.
    pub stream: String,
    /// Whether it is connected only while somebody watches.
    pub on_demand: bool,
    /// How it is.
    #[serde(flatten)]
    pub status: StreamStatus,
}

struct Entry {
    id: String,
    name: String,
    on_demand: bool,
    stream: StreamId,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Cameras {
    streams: Streams,
    engine: Engine,
    entries: Arc<ArcSwap<Vec<Entry>>>,
    demo: Arc<Mutex<Option<DemoCamera>>>,
}

impl Cameras {
    /// None yet.
    pub fn new(streams: Streams, engine: Engine) -> Self {
        Self { streams, engine, entries: Arc::default(), demo: Arc::default() }
    }

    /// Makes the cameras be those of a configuration.
    pub async fn apply(&self, config: &Config) {
        let mut cameras: Vec<CameraConfig> = config.cameras.clone();
        let mut demo = self.demo.lock().await;
        if cameras.is_empty() {
            cameras.extend(start_demo(&mut demo).await);
        } else if let Some(camera) = demo.take() {
            camera.stop().await;
        }
        let enabled: Vec<&CameraConfig> = cameras.iter().filter(|camera| camera.enabled).collect();
        let entry = |camera: &&CameraConfig| {
            let stream = camera.stream_id()?;
            let (id, name, on_demand) = (camera.id.clone(), camera.name.clone(), camera.spec.on_demand);
            Some(Entry { id, name, on_demand, stream })
        };
        let entries: Vec<Entry> = enabled.iter().filter_map(entry).collect();
        let specs =
            enabled.iter().filter_map(|camera| Some((camera.stream_id()?, camera.spec.clone()))).collect();
        let change = self.streams.set(specs);
        self.entries.store(Arc::new(entries));
        for number in &change.ended {
            self.engine.end_stream(*number);
        }
        info!(
            cameras = enabled.len(),
            started = change.started,
            ended = change.ended.len(),
            "cameras configured"
        );
    }

    /// All cameras in the order of the configuration.
    pub fn list(&self) -> Vec<CameraView> {
        self.entries.load().iter().filter_map(|entry| self.view(entry)).collect()
    }

    /// One camera.
    pub fn get(&self, id: &str) -> Option<CameraView> {
        let entries = self.entries.load();
        entries.iter().find(|entry| entry.id == id).and_then(|entry| self.view(entry))
    }

    /// A stream to watch.
    pub fn stream(&self, id: &StreamId) -> Option<StreamHandle> {
        self.streams.get(id)
    }

    fn view(&self, entry: &Entry) -> Option<CameraView> {
        let status = StreamStatus::clone(&*self.streams.get(&entry.stream)?.status());
        Some(CameraView {
            id: entry.id.clone(),
            name: entry.name.clone(),
            stream: entry.stream.to_string(),
            on_demand: entry.on_demand,
            status,
        })
    }
}

/// The camera that is there while none is configured.
async fn start_demo(slot: &mut Option<DemoCamera>) -> Option<CameraConfig> {
    if slot.is_none() {
        match DemoCamera::start(([127, 0, 0, 1], 0).into(), DemoOptions::default()).await {
            Ok(camera) => *slot = Some(camera),
            Err(error) => error!("the simulated camera does not start: {error}"),
        }
    }
    let url = Url::parse(&slot.as_ref()?.url()).ok()?;
    let source = SourceSpec::Rtsp { url, credentials: None, transport: Transport::Tcp };
    let idle_timeout = Duration::from_secs(10);
    let spec = StreamSpec { source, on_demand: true, idle_timeout, gop_cache: 4 << 20 };
    Some(CameraConfig { id: "demo".into(), name: "Demo".into(), enabled: true, spec })
}
