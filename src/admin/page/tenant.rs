//! One tenant's settings: what is in force, the form, Test, preview, the chart and the deliveries.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
};
use jiff::Timestamp;
use serde_json::{Map, json};

use super::{
    Api, Fields, Message, Refused, Visited, chart, delivery,
    form::Form,
    listed::{Filter, Row, SPANS, list},
    page, path_of, readable, tone,
};
use crate::{
    admin::{
        api::{
            Tenant,
            body::Body,
            endpoint::{self, Condition},
            stats,
            trial::{self, Emptiness, Tried},
            views::EndpointView,
        },
        problem::Problem,
    },
    control::endpoint::notes,
    delivery::{
        presets::{self, Preset},
        template::Placeholder,
    },
    outcome::Status,
};

/// Leads of the preview.
const PREVIEWED: u32 = 2;

#[derive(Template)]
#[template(path = "tenant.html", config = "src/admin/page/askama.toml")]
struct TenantPage {
    is_operator: bool,
    tenant: String,
    path: String,
    messages: Vec<Message>,
    takes_leads: bool,
    is_on: bool,
    lacks: String,
    version: Option<String>,
    secret_set_at: Option<String>,
    masked_url: Option<String>,
    stored_headers: Vec<String>,
    default_timeout: String,
    form: Form,
    in_force: Form,
    /// Somebody else has changed it.
    is_overtaken: bool,
    presets: &'static [Preset],
    notes: Vec<String>,
    placeholders: Vec<String>,
    tried: Option<TriedView>,
    preview: String,
    chart: String,
    statuses: [&'static str; 4],
    spans: [(&'static str, &'static str); 4],
    filter: Filter,
    deliveries: Vec<Row>,
    next: Option<String>,
}

/// How a Test ended.
struct TriedView {
    tone: &'static str,
    status: String,
    text: String,
    facts: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "preview.html", config = "src/admin/page/askama.toml")]
struct PreviewPart {
    problem: Option<String>,
    bodies: Vec<BodyView>,
    empty: Vec<Emptiness>,
}

struct BodyView {
    lead: String,
    /// `None`: it is not sent, and `problem` says why.
    text: Option<String>,
    problem: Option<String>,
}

/// Where the page cannot be made: what was typed, and the way back.
#[derive(Template)]
#[template(path = "again.html", config = "src/admin/page/askama.toml")]
struct AgainPage {
    title: &'static str,
    detail: String,
    path: String,
    version: String,
    kept: Vec<(String, String)>,
}

/// What a page is made of beside what is stored.
#[derive(Default)]
struct Shown {
    messages: Vec<Message>,
    /// `None`: what is stored.
    form: Option<Form>,
    /// The version that the form was made of; `None`: the present one.
    version: Option<String>,
    notes: Vec<String>,
    tried: Option<Tried>,
    filter: Filter,
    status: StatusCode,
}

/// The page, with the filter that stands in the address.
pub(super) async fn show(
    State(api): State<Api>,
    Visited(tenant): Visited,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let words = Fields::of_query(query.as_deref());
    let saved = (words.first("saved") == "yes").then(|| Message::good("Saved."));
    let filter = if words.0.is_empty() || saved.is_some() { Filter::default() } else { Filter::of(&words) };
    Ok(shown(&api, &tenant, Shown { messages: saved.into_iter().collect(), filter, ..Shown::default() }).await?)
}

/// Preview, Test, a preset or Save: what was typed stays, unless it was saved.
pub(super) async fn submit(
    State(api): State<Api>,
    Visited(tenant): Visited,
    fields: Fields,
) -> Result<Response, Refused> {
    let mut form = Form::sent(&fields);
    let is_whole = form.check();
    let mut shown_then = Shown { version: Some(fields.first("version").to_owned()), ..Shown::default() };
    match fields.first("do") {
        "preset" => match Preset::find(&form.preset) {
            Some(preset) => {
                form.take(preset);
                shown_then.notes = notes(preset, None, &form.header_names());
                shown_then.messages.push(Message::good(format!("{} is filled in, and not saved yet.", preset.name)));
            }
            None => shown_then.messages.push(Message::bad("Choose a destination first.")),
        },
        "test" | "save" if !is_whole => shown_then.messages.push(Message::bad("Nothing was done: see below.")),
        "test" => {
            let mut body = Map::from_iter([("draft".to_owned(), form.draft().into())]);
            body.extend((!form.event.is_empty()).then(|| ("event".to_owned(), form.event.clone().into())));
            match trial::test(State(api.clone()), tenant.clone(), Body(body)).await {
                Ok(tried) => shown_then.tried = Some(tried.0),
                Err(problem) => refuse(&mut form, &mut shown_then, &problem, "Nothing was sent"),
            }
        }
        "save" => match save(&api, &tenant, &condition(&fields), &form).await {
            Ok(told) if told.is_empty() => {
                return Ok(Redirect::to(&format!("{}?saved=yes", path_of(&tenant.id))).into_response());
            }
            Ok(told) => {
                let messages = told.into_iter().map(Message::bad);
                let messages = [Message::good("Saved.")].into_iter().chain(messages).collect();
                return Ok(shown(&api, &tenant, Shown { messages, ..Shown::default() }).await?);
            }
            Err(problem) => refuse(&mut form, &mut shown_then, &problem, "Nothing was saved"),
        },
        // The preview is of the form in any case.
        _ => {}
    }
    shown_or_kept(&api, &tenant, &fields, Shown { form: Some(form), ..shown_then }).await
}

/// What was typed outlives a database that is away.
async fn shown_or_kept(api: &Api, tenant: &Tenant, fields: &Fields, what: Shown) -> Result<Response, Refused> {
    shown(api, tenant, what).await.map_err(|problem| {
        let version = fields.first("version").to_owned();
        let (detail, path, kept) = (problem.detail().to_owned(), path_of(&tenant.id), fields.kept());
        Refused::with(&problem, &AgainPage { title: problem.title(), detail, path, version, kept })
    })
}

fn refuse(form: &mut Form, then: &mut Shown, problem: &Problem, what: &str) {
    if problem.errors().is_empty() {
        then.messages.push(Message::bad(format!("{what}: {}.", why(problem))));
    } else {
        form.refuse(problem);
        then.messages.push(Message::bad(format!("{what}: see below.")));
    }
    if problem.status() == StatusCode::PRECONDITION_FAILED {
        // They are told, and see what is in force: from here on it is that which they change.
        then.version = None;
    }
    then.status = problem.status();
}

/// In the words of a page, which has no entity tags.
fn why(problem: &Problem) -> &str {
    match problem.status() {
        StatusCode::PRECONDITION_FAILED => {
            "somebody else has changed these settings meanwhile, or this was sent twice. What you typed is kept below, with what is in \
             force beside it; what you did not touch is as it is in force: look at both, and go on from there"
        }
        _ => problem.detail(),
    }
}

/// What to tell beside it.
async fn save(api: &Api, tenant: &Tenant, condition: &Condition, form: &Form) -> Result<Vec<String>, Problem> {
    let (_, _, saved) = endpoint::lay(api, tenant, condition, form.changes()).await?;
    Ok([saved.warnings, saved.notes].concat())
}

/// What is changed is what the page showed; where it showed that there was none, there must be none.
pub(super) fn condition(fields: &Fields) -> Condition {
    match fields.first("version") {
        "" => Condition::Absent,
        version => Condition::Present(vec![version.to_owned()]),
    }
}

/// Switches it on or off, at once; what was typed stays.
pub(super) async fn switch(
    State(api): State<Api>,
    Visited(tenant): Visited,
    fields: Fields,
) -> Result<Response, Refused> {
    let on = fields.first("enabled") == "true";
    let draft = Map::from_iter([("enabled".to_owned(), json!(on))]);
    match endpoint::lay(&api, &tenant, &condition(&fields), draft).await {
        Ok(_) => {
            let messages = vec![Message::good(if on { "Switched on." } else { "Switched off." })];
            let what = Shown { messages, form: Some(Form::sent(&fields)), ..Shown::default() };
            shown_or_kept(&api, &tenant, &fields, what).await
        }
        Err(problem) => refused(&api, &tenant, &fields, &problem, "Nothing was changed").await,
    }
}

/// The page, with why nothing was done.
pub(super) async fn refused(
    api: &Api,
    tenant: &Tenant,
    fields: &Fields,
    problem: &Problem,
    what: &str,
) -> Result<Response, Refused> {
    let mut form = Form::sent(fields);
    let mut then = Shown { version: Some(fields.first("version").to_owned()), ..Shown::default() };
    refuse(&mut form, &mut then, problem, what);
    shown_or_kept(api, tenant, fields, Shown { form: Some(form), ..then }).await
}

/// The preview alone, of what stands in the form just now.
pub(super) async fn preview(State(api): State<Api>, Visited(tenant): Visited, fields: Fields) -> Response {
    Html(previewed(&api, &tenant, &Form::sent(&fields)).await).into_response()
}

/// Only what a body depends on: a URL that is not finished keeps nobody from a look at it.
async fn previewed(api: &Api, tenant: &Tenant, form: &Form) -> String {
    let mut draft = form.draft();
    draft.retain(|name, _| ["template", "omit_empty"].contains(&name.as_str()));
    let mut body = Map::from_iter([("draft".to_owned(), draft.into()), ("last".to_owned(), PREVIEWED.into())]);
    body.extend((!form.event.is_empty()).then(|| ("event".to_owned(), form.event.clone().into())));
    let part = match trial::preview(State(api.clone()), tenant.clone(), Body(body)).await {
        Err(problem) => {
            let faults = problem.errors().iter().map(|fault| fault.detail.as_str());
            let why =
                faults.chain(problem.errors().is_empty().then(|| problem.detail())).collect::<Vec<_>>().join("; ");
            PreviewPart { problem: Some(why), bodies: Vec::new(), empty: Vec::new() }
        }
        Ok(made) => {
            let bodies = made.0.bodies.into_iter();
            let text = |body: &trial::PreviewedBody| body.body.as_ref().map(|body| indented(body.get()));
            let bodies = bodies.map(|body| BodyView { text: text(&body), problem: body.problem, lead: body.lead_id });
            let bodies = bodies.collect();
            let empty = made.0.placeholders.into_iter().filter(|one| one.empty > 0).collect();
            PreviewPart { problem: None, bodies, empty }
        }
    };
    part.render().unwrap_or_default()
}

/// For people; what is sent has no blanks.
fn indented(json: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(json);
    value.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or_else(|_| json.to_owned())
}

async fn shown(api: &Api, tenant: &Tenant, what: Shown) -> Result<Response, Problem> {
    let row = endpoint::read(api, tenant).await?;
    let default_timeout = api.pipeline().timeout();
    let stored = row.as_ref().map(|row| EndpointView::of(row, default_timeout));
    let Shown { mut messages, form, version, notes, tried, filter, status } = what;
    let in_force = || Form::of(stored.as_ref());
    let form = match form {
        None => in_force(),
        Some(form) if version.is_none() => form.over(in_force()),
        Some(form) => form,
    };
    let since = chart::since(Timestamp::now());
    let days = stats::by_day(api, tenant, since).await?;
    let (deliveries, next) = match list(api, tenant, &filter).await {
        Ok(listed) => listed,
        Err(problem) if problem.status() == StatusCode::BAD_REQUEST => {
            let faults: Vec<_> = problem.errors().iter().map(|fault| fault.detail.as_str()).collect();
            messages.push(Message::bad(format!("The filter is not understood: {}", faults.join("; "))));
            (Vec::new(), None)
        }
        Err(problem) => return Err(problem),
    };
    let lacks = stored.as_ref().map_or_else(|| vec!["url", "secret"], |stored| stored.lacks.clone());
    let shown = TenantPage {
        is_operator: tenant.is_operator(),
        tenant: tenant.id.clone(),
        path: path_of(&tenant.id),
        messages,
        takes_leads: lacks.is_empty(),
        is_on: stored.as_ref().is_none_or(|stored| stored.enabled),
        lacks: in_words(&lacks),
        version: version.or_else(|| row.as_ref().map(endpoint::version)).filter(|version| !version.is_empty()),
        secret_set_at: stored.as_ref().and_then(|stored| stored.secret_set_at.as_deref().map(readable)),
        masked_url: stored.as_ref().and_then(|stored| stored.url.clone()),
        stored_headers: stored.iter().flat_map(|stored| stored.headers.keys().cloned()).collect(),
        default_timeout: humantime::format_duration(default_timeout).to_string(),
        preview: previewed(api, tenant, &form).await,
        form,
        in_force: in_force(),
        is_overtaken: status == StatusCode::PRECONDITION_FAILED,
        presets: &presets::ALL,
        notes,
        placeholders: Placeholder::ALL.iter().map(|placeholder| format!("{{{{{placeholder}}}}}")).collect(),
        tried: tried.map(tried_view),
        chart: chart::of(&days, since),
        statuses: Status::WORDS,
        spans: SPANS,
        filter,
        deliveries,
        next,
    };
    Ok(page(status, &shown))
}

fn in_words(lacks: &[&str]) -> String {
    let word = |lack: &&str| match *lack {
        "off" => "it is off",
        "url" => "it has no URL",
        _ => "it has no secret",
    };
    lacks.iter().map(word).collect::<Vec<_>>().join(" and ")
}

fn tried_view(tried: Tried) -> TriedView {
    let delivery = tried.delivery;
    let text = match (delivery.http_status, delivery.error.clone()) {
        (Some(code), _) if delivery.status == "delivered" => format!("The receiver answered {code}."),
        (Some(code), _) => format!("The receiver answered {code}: put that right, and try again before saving."),
        (None, error) => format!("{}: put that right, and try again before saving.", error.unwrap_or_default()),
    };
    TriedView { tone: tone(&delivery.status), status: delivery.status.clone(), text, facts: delivery::facts(&delivery) }
}
