//! The admin listener, on this host alone: how the daemon does, for probes and for Prometheus; and, where there is a token,
//! the API and the page.

mod access;
mod api;
mod page;
mod probes;
mod problem;
mod sessions;
mod shares;
mod work;

use std::{io, os::unix::fs::FileTypeExt as _, path::Path, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
    time::sleep,
};

pub use self::{probes::Probes, sessions::Sessions};
use crate::{
    config::{self, Leads, Listen},
    http_server,
    pipeline::Pipeline,
};
use access::{Access, host_of, is_local, name_of};
use api::Api;
use work::Work;

/// Connections at once, the probes' among them.
const CLIENTS: usize = 64;

/// Where it listens.
pub enum Bound {
    /// An address of this host's own.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixListener),
}

impl Bound {
    /// Begins to listen. A socket that a daemon left is replaced.
    ///
    /// # Errors
    /// What the system says; the operator must act.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on this socket already"));
                }
                remove_socket(path)?;
                UnixListener::bind(path).map(Self::Unix)
            }
        }
    }
}

/// Removes what stands there, if it is a socket.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path),
        // Anything else is not ours: binding says that it is in the way.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is told of, and what may be done.
pub struct Admin {
    /// How the daemon does.
    pub probes: Probes,
    /// `[admin]`.
    pub config: config::Admin,
    /// What opens, checks and sends.
    pub pipeline: watch::Receiver<Arc<Pipeline>>,
    /// Whose leads are previewed and sent again.
    pub leads: Arc<Leads>,
    /// For what is under way when it is told to stop.
    pub drain_timeout: Duration,
}

impl Admin {
    /// Answers until it is told to stop, and what was asked by then to its end: a Test, say, and its line in the log.
    pub async fn serve(self, bound: Bound, stop: watch::Receiver<bool>) {
        let Self { probes, config, pipeline, leads, drain_timeout } = self;
        let sessions = probes.sessions.clone();
        let names = match bound {
            Bound::Tcp(_) => Names::Local,
            Bound::Unix(_) => {
                Names::AllBut(config.origin.as_ref().map(|origin| host_of(origin.authority()).to_owned()))
            }
        };
        let told = probes::routes(probes).layer(middleware::from_fn_with_state(names, only_here));
        let work = Work::new();
        let api = Access::new(&config).map(|access| Api::new(sessions, pipeline, leads, access, work.clone()));
        let routes = match api {
            Some(api) => told.merge(page::routes(api.clone())).merge(api.routes()),
            None => told,
        };
        let stopped = |mut stop: watch::Receiver<bool>| async move {
            // The sender outlives us; if it did not, that were a stop too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let served = async {
            let stop = stopped(stop.clone());
            match bound {
                Bound::Tcp(listener) => http_server::serve(listener, CLIENTS, routes, ready_at_once, stop).await,
                Bound::Unix(listener) => http_server::serve(listener, CLIENTS, routes, ready_at_once, stop).await,
            }
            work.end().await;
        };
        let too_long = async {
            stopped(stop.clone()).await;
            sleep(drain_timeout).await;
        };
        tokio::select! {
            () = served => {}
            () = too_long => {}
        }
    }
}

/// Nothing comes before the first request.
async fn ready_at_once<S>(stream: S) -> io::Result<S> {
    Ok(stream)
}

/// The names under which probes and metrics are told: to whoever is on this host.
#[derive(Clone)]
enum Names {
    /// A page of somebody's that a browser on this host has open reaches us under another name, if at all.
    Local,
    /// A socket's clients are no browsers, and name it as they like; by the public name it is a reverse proxy, for anybody.
    AllBut(Option<String>),
}

async fn only_here(State(names): State<Names>, request: Request, next: Next) -> Response {
    let name = name_of(request.uri(), request.headers());
    let is_told = match (&names, name) {
        // Old monitors send none (HTTP/1.0); browsers and reverse proxies do.
        (_, None) => !request.headers().contains_key(header::HOST),
        (Names::Local, Some(name)) => is_local(name),
        (Names::AllBut(public), Some(name)) => {
            let name = host_of(name).trim_end_matches('.');
            public.as_ref().is_none_or(|public| !name.eq_ignore_ascii_case(public))
        }
    };
    if is_told {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "probes and metrics are told on this host alone: ask under localhost\n").into_response()
}
