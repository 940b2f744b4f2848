//! `lead-webhook run`: starts the listener, the dispatcher, the recorder and the sweep, tells systemd how they do, and
//! ends them in order.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
    time::Interval,
};
use uuid::Uuid;

use crate::{
    admin::{Admin, Bound, Probes, Sessions},
    config::{self, Config, Database, Listen},
    dispatch::{
        dispatcher::Dispatcher,
        flight::Flight,
        heart::Heart,
        listener,
        memory::Memory,
        recorder::{Recorder, Standing},
        sweep::Sweeper,
        wake_up::WakeUp,
    },
    keyring::KeyRing,
    metrics::Metrics,
    pipeline::Pipeline,
    shortage::Shortage,
    shutdown::{Request, Requests},
    store::instances::Instance,
    telemetry::LevelSwitch,
};

/// After the last attempt a stop waits this long for a database that is away.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished and written.
    Drained,
    /// A second signal, or a database that stayed away: what was in flight will be logged as interrupted.
    InDoubt,
}

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] crate::delivery::tls::ClientError),
    /// The admin listener cannot be opened.
    #[error("admin.listen: cannot listen on {listen} ({source}): end what is in its place, or name another")]
    Admin {
        /// Where.
        listen: Listen,
        /// What the system says.
        source: std::io::Error,
    },
    /// The signals cannot be listened to.
    #[error("signals cannot be listened to: {0}")]
    Signals(#[from] std::io::Error),
}

/// What the daemon was started with. A reload reads it again, and puts in force what can be.
pub struct Daemon {
    /// The configuration.
    pub config: Config,
    /// Where the configuration came from.
    pub config_file: Option<PathBuf>,
    /// The key ring.
    pub keyring: KeyRing,
    /// The log's level.
    pub level: LevelSwitch,
}

/// The four tasks and the admin listener, and what they share with the daemon's own loop.
struct Tasks {
    recorder: JoinHandle<()>,
    listener: JoinHandle<()>,
    dispatcher: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    admin: Option<JoinHandle<()>>,
    flight: Arc<Flight>,
    metrics: Arc<Metrics>,
    wake_up: WakeUp,
    pipeline: watch::Sender<Arc<Pipeline>>,
    standing: watch::Receiver<Standing>,
    stop: watch::Sender<bool>,
}

impl Daemon {
    /// Runs until a signal ends it.
    ///
    /// # Errors
    /// [`StartError`]; a database that is away is none, it is waited for.
    pub async fn run(mut self) -> Result<Ended, StartError> {
        let mut requests = Requests::new()?;
        let admin = match &self.config.admin.listen {
            Some(listen) => {
                let refused = |source| StartError::Admin { listen: listen.clone(), source };
                Some(Bound::bind(listen).await.map_err(refused)?)
            }
            None => None,
        };
        let mut tasks = self.start()?;
        if let Some(bound) = admin {
            tasks.tell(bound, &self.config);
        }
        notify(&[NotifyState::Ready]);
        let mut watchdog = watchdog();
        if !self.watch(&mut tasks, &mut requests, &mut watchdog).await {
            return Ok(Ended::InDoubt);
        }
        Ok(tasks.end(&mut requests, &mut watchdog).await)
    }

    /// Starts the four tasks.
    #[expect(clippy::disallowed_methods, reason = "the daemon's four tasks start here, and their ends are awaited")]
    fn start(&self) -> Result<Tasks, StartError> {
        let pipeline = watch::Sender::new(Arc::new(Pipeline::new(&self.config, self.keyring.clone())?));
        let database = Arc::new(self.config.database.clone());
        let instance = Instance {
            instance_id: Uuid::new_v4(),
            host: config::host_name(),
            process_id: i32::try_from(std::process::id()).unwrap_or_default(),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), instance.id = %instance.instance_id,
            table = %self.config.leads.table, "starting",
        );
        let delivery = &self.config.delivery;
        let heart = Arc::new(Heart::new(instance, self.config.leads.table.clone()));
        let flight = Arc::new(Flight::new(delivery.concurrency, delivery.per_endpoint));
        let wake_up = WakeUp::default();
        let stop = watch::Sender::new(false);
        let (status, standing) = watch::channel(Standing::Away);
        let (ended, outcomes) = mpsc::unbounded_channel();

        let memory = Arc::new(Mutex::new(Memory::default()));
        let metrics = Arc::new(Metrics::default());
        let recorder = Recorder::new(
            Arc::clone(&database),
            Arc::clone(&heart),
            Arc::clone(&flight),
            Arc::clone(&memory),
            Arc::clone(&metrics),
            pipeline.subscribe(),
            status,
        );
        let probe = self.config.admin.listen.is_some().then(|| Arc::clone(&metrics));
        let listener = listener::listen(Arc::clone(&database), wake_up.clone(), probe, stop.subscribe());
        let sweeper = Sweeper {
            database: Arc::clone(&database),
            leads: self.config.leads.clone(),
            retention: self.config.retention,
            heart: Arc::clone(&heart),
            wake_up: wake_up.clone(),
            metrics: Arc::clone(&metrics),
            is_watched: self.config.admin.listen.is_some(),
            pipeline: pipeline.subscribe(),
            stop: stop.subscribe(),
        };
        let dispatcher = Dispatcher {
            memory,
            metrics: Arc::clone(&metrics),
            pause: Arc::default(),
            database,
            leads: self.config.leads.clone(),
            max_age: delivery.max_age,
            drain_timeout: delivery.drain_timeout,
            pipeline: pipeline.subscribe(),
            flight: Arc::clone(&flight),
            heart,
            wake_up: wake_up.clone(),
            ended,
            stop: stop.subscribe(),
        };
        Ok(Tasks {
            recorder: tokio::spawn(recorder.run(outcomes)),
            listener: tokio::spawn(listener),
            dispatcher: tokio::spawn(dispatcher.run()),
            sweeper: tokio::spawn(sweeper.run()),
            admin: None,
            flight,
            metrics,
            wake_up,
            pipeline,
            standing,
            stop,
        })
    }

    /// Answers signals and systemd while the tasks work. `false`: one of them has ended by itself.
    async fn watch(&mut self, tasks: &mut Tasks, requests: &mut Requests, watchdog: &mut Interval) -> bool {
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Request::Reload => self.reload(tasks),
                    Request::Stop => return true,
                },
                _ = watchdog.tick() => notify(&[NotifyState::Watchdog, NotifyState::Status(&tasks.status())]),
                _ = tasks.standing.changed() => notify(&[NotifyState::Status(&tasks.status())]),
                // They end by themselves only if they have panicked; systemd restarts us then.
                _ = &mut tasks.dispatcher => {
                    tracing::error!("the dispatcher has ended");
                    return false;
                }
                _ = &mut tasks.recorder => {
                    tracing::error!("the recorder has ended");
                    return false;
                }
                _ = &mut tasks.listener => {
                    tracing::error!("the listener has ended");
                    return false;
                }
                _ = &mut tasks.sweeper => {
                    tracing::error!("the sweep has ended");
                    return false;
                }
            }
        }
    }

    /// SIGHUP: a new pipeline (keys, egress, limits of an attempt, identity) and the log's level. What a session or a
    /// table depends on needs a restart, and says so.
    fn reload(&self, tasks: &Tasks) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        match self.reloaded() {
            Ok((config, new)) => {
                let waiting = waiting_for_restart(&config, &self.config);
                if !waiting.is_empty() {
                    tracing::warn!(waiting = waiting.join(", "), "what is changed there takes effect at a restart");
                }
                self.level.set(config.log.level);
                tasks.pipeline.send_replace(Arc::new(new));
                tasks.wake_up.ring();
                tracing::info!("reloaded");
            }
            Err(error) => {
                // Nothing is wrong with a file that could not be opened for that.
                let error = Shortage::present().map_or(error, |shortage| shortage.to_string());
                tracing::error!(error, "not reloaded; what was in force stays");
            }
        }
        notify(&[NotifyState::Ready]);
    }

    fn reloaded(&self) -> Result<(Config, Pipeline), String> {
        let config = config::load(self.config_file.as_deref()).map_err(|error| error.to_string())?;
        let keyring = KeyRing::read(&config.keys_file).map_err(|error| error.to_string())?;
        let pipeline = Pipeline::new(&config, keyring).map_err(|error| error.to_string())?;
        Ok((config, pipeline))
    }
}

impl Tasks {
    /// Lets the admin listener tell of them.
    #[expect(clippy::disallowed_methods, reason = "its end is awaited with the tasks'")]
    fn tell(&mut self, bound: Bound, config: &Config) {
        let probes = Probes {
            metrics: Arc::clone(&self.metrics),
            flight: Arc::clone(&self.flight),
            wake_up: self.wake_up.clone(),
            standing: self.standing.clone(),
            sessions: Sessions::new(Arc::new(config.database.clone())),
        };
        let admin = Admin {
            probes,
            config: config.admin.clone(),
            pipeline: self.pipeline.subscribe(),
            leads: Arc::new(config.leads.clone()),
            drain_timeout: config.delivery.drain_timeout,
        };
        self.admin = Some(tokio::spawn(admin.serve(bound, self.stop.subscribe())));
    }

    /// Stops the tasks in order: no more claims, what is in flight ends, outcomes are written.
    async fn end(self, requests: &mut Requests, watchdog: &mut Interval) -> Ended {
        let Self { recorder, listener, dispatcher, sweeper, admin, flight, stop, standing, .. } = self;
        tracing::info!(in_flight = flight.len(), "stopping");
        notify(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
        stop.send_replace(true);
        let end = async {
            // A task's own panic is its end as well.
            let admin = async {
                if let Some(admin) = admin {
                    let _ = admin.await;
                }
            };
            let _ = tokio::join!(dispatcher, listener, sweeper, admin);
            tokio::time::timeout(LAST_WRITES, recorder).await.is_ok()
        };
        tokio::pin!(end);
        let is_written = loop {
            tokio::select! {
                is_written = &mut end => break is_written,
                request = requests.next() => if request == Request::Stop {
                    tracing::warn!(
                        in_flight = flight.len(),
                        "ending at once; what is in flight will be logged as interrupted",
                    );
                    return Ended::InDoubt;
                },
                _ = watchdog.tick() => notify(&[NotifyState::Watchdog]),
            }
        };
        if !is_written {
            let why = match *standing.borrow() {
                Standing::Guarded => "the database or the key file is not the installation's",
                Standing::There | Standing::Away => "the database stayed away",
            };
            tracing::error!(
                outcomes = flight.ended(),
                why,
                "outcomes are lost, their events will be logged as interrupted",
            );
            return Ended::InDoubt;
        }
        tracing::info!("stopped");
        Ended::Drained
    }

    fn status(&self) -> String {
        let database = match *self.standing.borrow() {
            Standing::There => "database connected",
            Standing::Away => "waiting for the database",
            Standing::Guarded => "not the installation's database or key file, see the log",
        };
        format!("{database}, {} in flight", self.flight.len())
    }
}

/// What of `new` is not as the daemon was started with, and stays so until a restart.
fn waiting_for_restart(new: &Config, started: &Config) -> Vec<&'static str> {
    let (new_delivery, delivery) = (&new.delivery, &started.delivery);
    // That of the owner is for commands.
    let database = Database { owner_url: started.database.owner_url.clone(), ..new.database.clone() };
    let changes = [
        ("[database]", database != started.database),
        ("[leads]", new.leads != started.leads),
        ("[retention]", new.retention != started.retention),
        ("[admin]", new.admin != started.admin),
        ("log.format", new.log.format != started.log.format),
        ("delivery.concurrency", new_delivery.concurrency != delivery.concurrency),
        ("delivery.per_endpoint", new_delivery.per_endpoint != delivery.per_endpoint),
        ("delivery.max_age", new_delivery.max_age != delivery.max_age),
        ("delivery.drain_timeout", new_delivery.drain_timeout != delivery.drain_timeout),
    ];
    changes.into_iter().filter_map(|(name, has_changed)| has_changed.then_some(name)).collect()
}

/// Tells systemd, where it listens; where it does not, nothing is lost.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd does not hear us");
    }
}

/// Twice within the watchdog's time; without one, often enough for the status.
fn watchdog() -> Interval {
    let every = sd_notify::watchdog_enabled().map_or(Duration::from_secs(10), |limit| limit / 2);
    tokio::time::interval(every)
}
