//! A name server that answers what a test tells it: over UDP, and over TCP what does not fit.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, CNAME, RData},
};

/// The most that goes into an answer over UDP (RFC 1035, section 2.3.4).
const MOST_OVER_UDP: usize = 512;

/// What a name has.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These addresses; none: the name is there, but has none.
    Addresses(Vec<IpAddr>),
    /// Another name in its place.
    Alias(&'static str),
    /// No such name; as of every name that nothing was said of.
    NoSuchName,
    /// The server could not find out.
    Failure,
    /// Nothing at all.
    Silence,
}

/// Replies of one name, in order, the last one for ever; and how often each type was asked for.
#[derive(Default)]
struct Entry {
    replies: Vec<Reply>,
    asked: HashMap<u16, usize>,
}

/// A name server on port 53 of 127.0.0.1, for as long as the process lasts.
pub(crate) struct NameServer(Arc<Mutex<HashMap<String, Entry>>>);

impl NameServer {
    pub(crate) fn start() -> Self {
        let server = Self(Arc::default());
        let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
        let listener = TcpListener::bind("127.0.0.1:53").unwrap();
        let (over_udp, over_tcp) = (Self(Arc::clone(&server.0)), Self(Arc::clone(&server.0)));
        thread::spawn(move || {
            let mut query = [0; MOST_OVER_UDP];
            loop {
                let (length, asker) = socket.recv_from(&mut query).unwrap();
                if let Some(answer) = over_udp.answer(&query[..length], MOST_OVER_UDP) {
                    socket.send_to(&answer, asker).unwrap();
                }
            }
        });
        thread::spawn(move || listener.incoming().for_each(|asker| over_tcp.converse(asker.unwrap()).unwrap_or(())));
        server
    }

    /// What is answered for a name from now on: to one question of a type after the other, the last one for ever.
    pub(crate) fn say(&self, name: &str, replies: &[Reply]) {
        let entry = Entry { replies: replies.to_vec(), ..Entry::default() };
        self.0.lock().unwrap().insert(name.to_owned(), entry);
    }

    /// How often the IPv4 addresses of a name were asked for since [`say`](Self::say).
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.0.lock().unwrap()[name].asked.get(&TYPE::A.into()).copied().unwrap_or_default()
    }

    fn converse(&self, mut asker: TcpStream) -> std::io::Result<()> {
        loop {
            let mut length = [0; 2];
            asker.read_exact(&mut length)?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            asker.read_exact(&mut query)?;
            let Some(answer) = self.answer(&query, usize::from(u16::MAX)) else { return Ok(()) };
            asker.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes())?;
            asker.write_all(&answer)?;
        }
    }

    fn answer(&self, query: &[u8], most: usize) -> Option<Vec<u8>> {
        let query = Packet::parse(query).unwrap();
        let question = query.questions[0].clone();
        let mut answer = Packet::new_reply(query.id());
        answer.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
        answer.questions.push(question.clone());
        let mut name = question.qname.to_string().to_ascii_lowercase();
        loop {
            let record = |data| ResourceRecord::new(Name::new(&name).unwrap().into_owned(), CLASS::IN, 0, data);
            match self.reply(&name, question.qtype) {
                Reply::Alias(target) => {
                    answer.answers.push(record(RData::CNAME(CNAME(Name::new_unchecked(target)))));
                    name = target.to_owned();
                    continue;
                }
                Reply::Addresses(addresses) => {
                    let data = addresses.into_iter().map(|address| match address {
                        IpAddr::V4(address) => RData::A(A { address: address.to_bits() }),
                        IpAddr::V6(address) => RData::AAAA(AAAA { address: address.to_bits() }),
                    });
                    let records = data.map(record).filter(|record| record.match_qtype(question.qtype));
                    answer.answers.extend(records);
                }
                Reply::NoSuchName => *answer.rcode_mut() = RCODE::NameError,
                Reply::Failure => *answer.rcode_mut() = RCODE::ServerFailure,
                Reply::Silence => return None,
            }
            break;
        }
        let mut bytes = answer.build_bytes_vec_compressed().unwrap();
        if bytes.len() > most {
            answer.set_flags(PacketFlag::TRUNCATION);
            answer.answers.clear();
            bytes = answer.build_bytes_vec_compressed().unwrap();
        }
        Some(bytes)
    }

    fn reply(&self, name: &str, kind: QTYPE) -> Reply {
        let mut names = self.0.lock().unwrap();
        let Some(entry) = names.get_mut(name) else { return Reply::NoSuchName };
        let asked = entry.asked.entry(kind.into()).or_default();
        let reply = entry.replies.get(*asked).or(entry.replies.last()).cloned();
        *asked += 1;
        reply.unwrap()
    }
}
