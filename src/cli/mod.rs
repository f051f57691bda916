//! The command line: `serve`, `check`, `probe`, `user`, `demo-camera`. Parses arguments, prints results and sets the
//! exit status; the work is done elsewhere. Start at [`run`].

// The only module that writes to the console.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// Prints a line. Whoever reads the console may go away, as `head` does: that ends nothing.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*)));
    }};
}

mod announce;
mod log;
mod service;
mod user;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tracing::{error, info, warn};

use crate::Gatehouse;
use crate::backup;
use crate::config::{Config, Overrides, STANDARD_INPUT};
use crate::demo::{DemoCamera, DemoOptions, Faults, LoginScheme};
use crate::probe;
use crate::reload;
use crate::secret::Secret;
use crate::tls::Tls;
use service::Signals;

/// sysexits.h: the configuration is wrong, and starting again does not help. The unit does not restart then.
const EX_CONFIG: u8 = 78;
/// For the database at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// A longer file is no password.
const MAX_PASSWORD: u64 = 4096;

const AFTER_HELP: &str = "\
Examples:
  gatehouse                                   a simulated camera on http://localhost:8443/
  gatehouse --config gatehouse.toml           the cameras of a file; changes are picked up while it runs
  gatehouse check gatehouse.toml              all problems of the file, with their places
  gatehouse user passwd admin                 a new password for whoever has lost it
  gatehouse backup gatehouse.tar              everything that a move to another machine needs
  gatehouse probe rtsp://user@camera/1        what a camera offers, and what a browser would make of it

Environment: GATEHOUSE_CONFIG names the file. GATEHOUSE_LISTEN, GATEHOUSE_DATA and others override its keys, as config/gatehouse.toml
lists; flags override both. GATEHOUSE_ADMIN_PASSWORD is the first admin's password, instead of a random one.";

/// RTSP cameras in the browser over WebRTC: one program, one port.
#[derive(Parser)]
#[command(name = "gatehouse", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default without a command)
    Serve(ServeArgs),
    /// Check a configuration file and report all of its problems
    Check(CheckArgs),
    /// Report what a camera offers and what would prevent a browser from playing it
    Probe(ProbeArgs),
    /// Add users, set passwords, create tokens
    User(user::UserArgs),
    /// Write accounts, settings, the certificate authority and certificates to one archive, also while the server runs
    Backup(BackupArgs),
    /// Replace all of that by what an archive contains; the server must not be running
    Restore(BackupArgs),
    /// Print the manual page, or write those of all commands to a folder
    Man(ManArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Simulate a camera: an RTSP server that loops an H.264 clip, with faults on demand
    DemoCamera(Box<DemoArgs>),
}

#[derive(Args, Clone)]
struct ServeArgs {
    /// The configuration file (TOML); without it, a simulated camera is shown
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder for the database and certificates
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address to listen on, TCP and UDP
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Make a new certificate authority, which all devices have to be told to trust; the old one is set aside
    #[arg(long)]
    new_authority: bool,
}

impl ServeArgs {
    /// The flag, else the variable. An empty variable, as container files often set it, counts as unset.
    fn config(&self) -> Option<PathBuf> {
        let variable = std::env::var_os("GATEHOUSE_CONFIG").filter(|value| !value.is_empty());
        self.config.clone().or_else(|| variable.map(PathBuf::from))
    }

    fn overrides(&self) -> Overrides {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| name.starts_with("GATEHOUSE_") && !value.is_empty())
            .collect();
        Overrides {
            environment,
            listen: self.listen,
            data: self.data.clone(),
            new_authority: self.new_authority,
        }
    }
}

#[derive(Args)]
struct CheckArgs {
    /// The file, like --config; "-" for standard input
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Args)]
struct ManArgs {
    /// Write a page for each command into this folder, instead of printing the first one
    folder: Option<PathBuf>,
}

#[derive(Args)]
struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

#[derive(Args)]
struct ProbeArgs {
    /// An address such as rtsp://viewer@192.0.2.7/stream; the password is asked for, or read from --password-file or
    /// GATEHOUSE_PROBE_PASSWORD
    url: String,
    /// A file with the password in its first line; "-" for standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Get RTP in datagrams instead of inside the RTSP connection
    #[arg(long)]
    udp: bool,
    /// The longest time to watch the stream
    #[arg(long, default_value_t = 8, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct BackupArgs {
    /// The archive (tar). It contains keys: keep it as safe as the server
    file: PathBuf,
    #[command(flatten)]
    place: user::PlaceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum SchemeArg {
    Basic,
    Digest,
}

#[derive(Args)]
struct DemoArgs {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:8554", value_name = "ADDR")]
    listen: SocketAddr,
    /// An H.264 Annex-B file; the bundled clip without it
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// Frames per second
    #[arg(long, default_value_t = 25.0)]
    fps: f64,
    /// Without audio
    #[arg(long)]
    no_audio: bool,
    /// Require this login, as user:password
    #[arg(long, value_name = "USER:PASSWORD")]
    login: Option<String>,
    /// The authentication scheme
    #[arg(long, value_enum, default_value = "digest")]
    scheme: SchemeArg,
    /// The largest RTP payload; up to 65000 over TCP
    #[arg(long, default_value_t = 1400)]
    mtu: usize,
    /// Omit the parameter sets from the SDP
    #[arg(long)]
    no_sprop: bool,
    /// Stop sending after this many seconds of a session
    #[arg(long, value_name = "SECONDS")]
    silent_after: Option<f64>,
    /// Stop sending video after this many seconds of a session; audio continues
    #[arg(long, value_name = "SECONDS")]
    freeze_after: Option<f64>,
    /// Stop sending audio after this many seconds of a session; video continues
    #[arg(long, value_name = "SECONDS")]
    mute_after: Option<f64>,
    /// Close the connection after this many seconds of a session
    #[arg(long, value_name = "SECONDS")]
    close_after: Option<f64>,
    /// Send bytes that are not RTSP after this many seconds of a session
    #[arg(long, value_name = "SECONDS")]
    garbage_after: Option<f64>,
    /// Make the timestamps jump after this many seconds of a session
    #[arg(long, value_name = "SECONDS")]
    jump_after: Option<f64>,
    /// Switch to another clip (see --second-clip) after this many seconds of a session
    #[arg(long, value_name = "SECONDS", requires = "second_clip")]
    switch_after: Option<f64>,
    /// The clip for --switch-after
    #[arg(long, value_name = "FILE")]
    second_clip: Option<PathBuf>,
    /// Drop every n-th packet
    #[arg(long, value_name = "N")]
    drop_every: Option<u64>,
    /// Give all frames the same time stamp
    #[arg(long)]
    frozen_clock: bool,
    /// Accept TCP, and send nothing there
    #[arg(long)]
    silent_over_tcp: bool,
}

/// Runs the program; returns its exit status.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    crate::compartment::install_hook();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(async {
        match cli.command {
            None => Box::pin(serve(&cli.serve)).await,
            Some(Command::Serve(args)) => Box::pin(serve(&args)).await,
            Some(Command::Check(args)) => check(args),
            Some(Command::Man(args)) => man(&args),
            Some(Command::Completions(args)) => completions(&args),
            Some(Command::Probe(args)) => Box::pin(probe(&args)).await,
            Some(Command::User(args)) => Box::pin(user::run(args)).await,
            Some(Command::Backup(args)) => back_up(args).await,
            Some(Command::Restore(args)) => restore(args),
            Some(Command::DemoCamera(args)) => demo_camera(&args).await,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn fail(message: &str) -> ExitCode {
    eprintln!("gatehouse: {message}");
    ExitCode::FAILURE
}

fn load(args: &ServeArgs) -> Result<Config, ExitCode> {
    Config::load(args.config().as_deref(), &args.overrides()).map_err(|problems| {
        eprintln!("{problems}");
        fail(&format!("{} problem(s) in the configuration", problems.0.len()));
        ExitCode::from(EX_CONFIG)
    })
}

fn man(args: &ManArgs) -> ExitCode {
    let command = Cli::command();
    let result = match &args.folder {
        Some(folder) => clap_mangen::generate_to(command, folder),
        None => clap_mangen::Man::new(command).render(&mut std::io::stdout()),
    };
    result.map_or_else(|error| fail(&format!("cannot write the page: {error}")), |()| ExitCode::SUCCESS)
}

fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gatehouse", &mut text);
    say!("{}", String::from_utf8_lossy(&text).trim_end());
    ExitCode::SUCCESS
}

fn check(args: CheckArgs) -> ExitCode {
    let CheckArgs { file, mut serve } = args;
    serve.config = file.or(serve.config);
    if serve.config().is_none() {
        return fail("no file given: gatehouse check FILE");
    }
    match load(&serve) {
        Ok(config) => {
            if let Err(error) = Tls::check(&config.tls, SystemTime::now()) {
                fail(&format!("[tls]: {error}"));
                return ExitCode::from(EX_CONFIG);
            }
            let enabled = config.cameras.iter().filter(|camera| camera.enabled).count();
            say!("no problems: {} camera(s), {enabled} enabled", config.cameras.len());
            say!("{}", config.media_address(config.listen).in_words());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

async fn serve(args: &ServeArgs) -> ExitCode {
    let config = match load(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    log::start(&config.log);
    // Each camera and each viewer over TCP takes a file descriptor.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!("cannot raise the limit of open files: {error}");
    }
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot handle signals: {error}")),
    };
    let gatehouse = match Box::pin(Gatehouse::start(&config)).await {
        Ok(gatehouse) => gatehouse,
        Err(error) => return fail(&error.to_string()),
    };
    info!(version = env!("CARGO_PKG_VERSION"), address = %gatehouse.address(), "started");
    announce::announce(&gatehouse, &config);
    if let Some(path) = args.config().filter(|path| path != Path::new(STANDARD_INPUT)) {
        let cameras = gatehouse.cameras().clone();
        tokio::spawn(Box::pin(reload::follow(path, args.overrides(), config, cameras, service::reloading)));
    }
    service::ready(&gatehouse);
    tokio::spawn(service::feed_watchdog(gatehouse.engine().clone()));
    signals.end().await;
    info!("stopping");
    service::stopping();
    gatehouse.stop();
    // Time for the goodbye messages to viewers to be sent.
    tokio::time::sleep(Duration::from_millis(200)).await;
    match tokio::time::timeout(CLOSE_LIMIT, gatehouse.close()).await {
        Ok(Ok(())) => info!("stopped"),
        Ok(Err(error)) => error!("the database was not closed in order; nothing is lost: {error}"),
        Err(_) => error!("the database did not close in time; nothing is lost"),
    }
    ExitCode::SUCCESS
}

async fn back_up(args: BackupArgs) -> ExitCode {
    let data = match args.place.find() {
        Ok((_, data, Ok(()))) => data,
        Ok((_, _, Err(message))) => return fail(&message),
        Err(code) => return code,
    };
    match backup::back_up(&data, &args.file).await {
        Ok(()) => {
            say!("{} has the content of {}", args.file.display(), data.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn restore(args: BackupArgs) -> ExitCode {
    let data = match args.place.find() {
        Ok((_, data, _)) => data,
        Err(code) => return code,
    };
    match backup::restore(&args.file, &data) {
        Ok(aside) => {
            say!("{} has the content of {}", data.display(), args.file.display());
            if let Some(aside) = aside {
                say!("The previous content is in {}", aside.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

async fn probe(args: &ProbeArgs) -> ExitCode {
    log::start("error");
    let password = match probe_password(args) {
        Ok(password) => password,
        Err(error) => return fail(&format!("the password cannot be read: {error}")),
    };
    let report = probe::run(&args.url, password, args.udp, Duration::from_secs(args.seconds)).await;
    if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => say!("{text}"),
            Err(error) => return fail(&error.to_string()),
        }
    } else {
        print!("{}", report.in_words());
    }
    ExitCode::from(report.exit_status())
}

/// The camera's password: from a file, from the environment, from the address, or asked for where a user is named. On
/// the command line others could read it in the list of processes.
fn probe_password(args: &ProbeArgs) -> std::io::Result<Option<Secret>> {
    let line = |text: String| Some(Secret::new(text.lines().next().unwrap_or_default()));
    if let Some(file) = &args.password_file {
        let text = match file.to_str() {
            Some("-") => std::io::read_to_string(std::io::Read::take(std::io::stdin().lock(), MAX_PASSWORD))?,
            _ => std::fs::read_to_string(file)?,
        };
        return Ok(line(text));
    }
    if let Ok(password) = std::env::var("GATEHOUSE_PROBE_PASSWORD") {
        return Ok(line(password));
    }
    let asks =
        url::Url::parse(&args.url).is_ok_and(|url| !url.username().is_empty() && url.password().is_none());
    if asks && std::io::stdin().is_terminal() {
        return rpassword::prompt_password("Password of the camera: ").map(line);
    }
    Ok(None)
}

async fn demo_camera(args: &DemoArgs) -> ExitCode {
    log::start("warn");
    let options = match demo_options(args) {
        Ok(options) => options,
        Err(message) => return fail(&message),
    };
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot handle signals: {error}")),
    };
    match DemoCamera::start(args.listen, options).await {
        Ok(camera) => {
            say!("Simulated camera running at {}", camera.url());
            signals.end().await;
            camera.stop().await;
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("cannot start the simulated camera: {error}")),
    }
}

fn demo_options(args: &DemoArgs) -> Result<DemoOptions, String> {
    let login = match &args.login {
        Some(login) => {
            let (user, password) = login.split_once(':').ok_or("--login requires user:password")?;
            let scheme = match args.scheme {
                SchemeArg::Basic => LoginScheme::Basic,
                SchemeArg::Digest => LoginScheme::Digest,
            };
            Some((user.to_owned(), password.to_owned(), scheme))
        }
        None => None,
    };
    if !(0.1..=240.0).contains(&args.fps) {
        return Err("--fps must be between 0.1 and 240".into());
    }
    let seconds = |value: Option<f64>| match value {
        Some(value) => Duration::try_from_secs_f64(value).map(Some).map_err(|error| error.to_string()),
        None => Ok(None),
    };
    let faults = Faults {
        silent_after: seconds(args.silent_after)?,
        freeze_after: seconds(args.freeze_after)?,
        mute_after: seconds(args.mute_after)?,
        close_after: seconds(args.close_after)?,
        garbage_after: seconds(args.garbage_after)?,
        jump_after: seconds(args.jump_after)?,
        switch: seconds(args.switch_after)?.zip(args.second_clip.clone()),
        drop_every: args.drop_every,
        frozen_clock: args.frozen_clock,
        silent_over_tcp: args.silent_over_tcp,
    };
    Ok(DemoOptions {
        clip: args.clip.clone(),
        fps: args.fps,
        audio: !args.no_audio,
        login,
        mtu: args.mtu,
        sprop: !args.no_sprop,
        faults,
    })
}
