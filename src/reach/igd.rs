//! Asking the router by UPnP: an Internet Gateway Device is looked for by SSDP and spoken to by SOAP
//! (UPnP Device Architecture 1.0; WANIPConnection:1).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::UdpSocket;

use super::{LIFETIME, Ports};
use crate::dht::is_local;

/// How long a router may take to answer a search (it may wait 2 s, as we say), and each question.
const SEARCH: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(5);

/// The longest description, or answer, that is read, in bytes: descriptions have some 5 to 30 KiB.
const LONGEST: usize = 128 << 10;

const SOUGHT: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";

/// A router that opens ports when it is asked by SOAP.
#[derive(Debug)]
pub(super) struct Gateway {
    client: Client<HttpConnector, Full<Bytes>>,
    control: Uri,
    service: String,
    /// Our address on its network.
    own: IpAddr,
}

impl Gateway {
    /// Looks for a router by a search sent to `ssdp`, and has it open both ports.
    pub(super) async fn open(ssdp: SocketAddr, port: u16) -> Option<(Self, Ports)> {
        let location = tokio::time::timeout(SEARCH, search(ssdp)).await.ok()??;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let description = call(&client, Request::get(&location).body(Full::default()).ok()?).await?;
        let (service, control) = service_of(&description)?;
        let host = location.authority()?;
        let control: Uri = match control.strip_prefix("http://") {
            // Whoever answers a search speaks for himself alone.
            Some(rest) if rest.split('/').next() == Some(host.as_str()) => control.parse().ok()?,
            Some(_) => return None,
            None => format!("http://{host}/{}", control.trim_start_matches('/')).parse().ok()?,
        };
        let router: SocketAddr = host.as_str().parse().ok()?;
        let probe = UdpSocket::bind((IpAddr::from([0; 4]), 0)).await.ok()?;
        probe.connect(router).await.ok()?;
        let own = probe.local_addr().ok()?.ip();
        let gateway = Self { client, control, service, own };
        let ports = gateway.renew(port).await?;
        Some((gateway, ports))
    }

    /// Has both kept open.
    pub(super) async fn renew(&self, port: u16) -> Option<Ports> {
        for protocol in ["TCP", "UDP"] {
            let arguments = format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
                 <NewProtocol>{protocol}</NewProtocol><NewInternalPort>{port}</NewInternalPort>\
                 <NewInternalClient>{}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>aptpeer</NewPortMappingDescription>\
                 <NewLeaseDuration>{LIFETIME}</NewLeaseDuration>",
                self.own
            );
            self.ask("AddPortMapping", &arguments).await?;
        }
        let answer = self.ask("GetExternalIPAddress", "").await;
        let address = answer.and_then(|xml| element(&xml, "NewExternalIPAddress")?.trim().parse().ok());
        Some(Ports { external: port, address, lifetime: LIFETIME })
    }

    /// Has both closed again.
    pub(super) async fn close(&self, port: u16) {
        for protocol in ["TCP", "UDP"] {
            let arguments = format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
                 <NewProtocol>{protocol}</NewProtocol>"
            );
            self.ask("DeletePortMapping", &arguments).await;
        }
    }

    async fn ask(&self, action: &str, arguments: &str) -> Option<String> {
        let service = &self.service;
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.control)
            .header(header::CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", format!("\"{service}#{action}\""))
            .body(Full::from(body));
        call(&self.client, request.ok()?).await
    }
}

/// Where the description of a router is, by the first that answers for itself from the local network.
async fn search(ssdp: SocketAddr) -> Option<Uri> {
    let socket = UdpSocket::bind((IpAddr::from([0; 4]), 0)).await.ok()?;
    let question = format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: {SOUGHT}\r\n\r\n"
    );
    socket.send_to(question.as_bytes(), ssdp).await.ok()?;
    let mut space = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut space).await.ok()?;
        if let Some(location) = location_of(&space[..length], from.ip()) {
            return Some(location);
        }
    }
}

fn location_of(answer: &[u8], from: IpAddr) -> Option<Uri> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.lines();
    if !lines.next()?.starts_with("HTTP/1.1 200") || !is_local(from) {
        return None;
    }
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut locations = fields.filter(|(name, _)| name.trim().eq_ignore_ascii_case("location"));
    let location: Uri = locations.next()?.1.trim().parse().ok()?;
    let host: SocketAddr = match location.authority()? {
        whole if whole.port().is_some() => whole.as_str().parse().ok()?,
        _ => return None,
    };
    (location.scheme_str() == Some("http") && host.ip() == from).then_some(location)
}

/// The type and the control URL of the service that opens ports, in a description.
fn service_of(description: &str) -> Option<(String, String)> {
    description.split("<service>").skip(1).find_map(|rest| {
        let service = element(rest, "serviceType")?.trim();
        let opens = service.contains(":WANIPConnection:") || service.contains(":WANPPPConnection:");
        let plain = service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-._".contains(&byte));
        let control = element(rest, "controlURL")?.trim();
        (opens && plain).then(|| (service.to_owned(), control.to_owned()))
    })
}

/// The text of the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let rest = xml.split_once(&format!("<{name}>"))?.1;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// The text of an answer with status 200.
async fn call(client: &Client<HttpConnector, Full<Bytes>>, request: Request<Full<Bytes>>) -> Option<String> {
    let answer = async {
        let response = client.request(request).await.ok()?;
        let good = response.status().is_success();
        let body = Limited::new(response.into_body(), LONGEST).collect().await.ok()?.to_bytes();
        good.then(|| String::from_utf8_lossy(&body).into_owned())
    };
    tokio::time::timeout(ANSWER, answer).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_search_speaks_for_itself_alone() {
        let answer = |location: &str| format!("HTTP/1.1 200 OK\r\nLocation: {location}\r\nST: x\r\n\r\n");
        let read = |location: &str, from: [u8; 4]| location_of(answer(location).as_bytes(), from.into());
        assert!(read("http://192.168.1.1:5000/desc.xml", [192, 168, 1, 1]).is_some());
        for location in ["http://192.168.1.2:5000/", "http://example.org:80/", "file:///etc/passwd", ""] {
            assert_eq!(read(location, [192, 168, 1, 1]), None, "{location}");
        }
        assert_eq!(read("http://8.8.8.8:5000/", [8, 8, 8, 8]), None, "not of this network");
        assert_eq!(location_of(b"\xff", [192, 168, 1, 1].into()), None);
    }

    #[test]
    fn the_service_that_opens_ports_is_found() {
        let xml = "<root><serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>\
                   <controlURL>/l3</controlURL></service><service>\
                   <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
                   <controlURL>/ctl/ip</controlURL></service></serviceList></root>";
        let (service, control) = service_of(xml).unwrap();
        assert_eq!(
            (service.as_str(), control.as_str()),
            ("urn:schemas-upnp-org:service:WANIPConnection:1", "/ctl/ip")
        );
        assert_eq!(service_of("<service><serviceType>x"), None);
    }
}
