//! Asks name servers: over UDP, and over TCP what doesn't fit.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::message::{Question, Reply};

/// Asks one server after another until one can say, a few times over.
///
/// # Errors
/// None could. The text says why the last one could not.
pub(super) async fn ask(servers: &[SocketAddr], question: &Question) -> Result<Reply, String> {
    let mut failed = String::new();
    for time in TIMES {
        for server in servers {
            failed = match timeout(time, ask_one(*server, question)).await {
                Ok(Ok(Reply::Failed(code))) => format!("{server} answers {code}"),
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => format!("{server}: {error}"),
                Err(_) => format!("{server} doesn't answer"),
            };
        }
    }
    Err(failed)
}

async fn ask_one(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    match over_udp(server, question).await? {
        Reply::Truncated => over_tcp(server, question).await,
        reply => Ok(reply),
    }
}

/// A socket of its own for every question: whoever wants to answer in the server's place has to guess its port too.
async fn over_udp(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question.message()).await?;
    let mut message = [0; UDP_BYTES];
    loop {
        let length = socket.recv(&mut message).await?;
        if let Some(reply) = question.reply(&message[..length]) {
            return Ok(reply);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let message = question.message();
    stream.write_all(&[&(message.len() as u16).to_be_bytes(), &message[..]].concat()).await?;
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    match question.reply(&message) {
        None | Some(Reply::Truncated) => Err(io::ErrorKind::InvalidData.into()),
        Some(reply) => Ok(reply),
    }
}

/// How long a server has, the first time and the second.
const TIMES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(4)];
/// What a message over UDP has at most.
const UDP_BYTES: usize = 512;
