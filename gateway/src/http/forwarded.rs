//! Whose request a trusted proxy passes on. Pure; never asked about the headers of anybody else.

use std::net::{IpAddr, SocketAddr};

use hyper::header::HeaderMap;

/// The address of the client behind a trusted proxy: from the nearest hop on, the first one that is not a trusted proxy itself. None
/// when the headers do not say so beyond doubt; then all that is known is the proxy.
///
/// `real_ip`: `X-Real-IP` counts where nothing else is there. A client can send it too, if the proxy lets it pass.
pub(super) fn client(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool, real_ip: bool) -> Option<IpAddr> {
    let listed = hops(headers, "x-forwarded-for", Some);
    let described = hops(headers, "forwarded", forwarded_for);
    let nearest = |hops: &[Option<IpAddr>]| nearest_untrusted(hops, &is_trusted);
    match (listed.as_slice(), described.as_slice()) {
        ([], []) if real_ip => address(headers.get("x-real-ip")?.to_str().ok()?),
        ([], []) => None,
        (listed, []) => nearest(listed),
        ([], described) => nearest(described),
        // A proxy that writes one of them passes on the other as the client wrote it, so they must agree.
        (listed, described) => nearest(listed).filter(|listed| nearest(described) == Some(*listed)),
    }
}

/// From the last hop backwards, past our own proxies. A hop that is no address hides whatever is before it.
fn nearest_untrusted(hops: &[Option<IpAddr>], is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut last = None;
    for hop in hops.iter().rev() {
        let hop = (*hop)?;
        last = Some(hop);
        if !is_trusted(hop) {
            break;
        }
    }
    last
}

/// Every hop that a header names, in all its lines; none for one that is no address.
fn hops<'a>(headers: &'a HeaderMap, name: &str, of: impl Fn(&'a str) -> Option<&'a str>) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or("?").split(','))
        .map(|hop| of(hop.trim()).and_then(address))
        .collect()
}

/// The `for` of one element of `Forwarded` (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// `10.0.0.1`, `10.0.0.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let plain = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    plain.or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    type Header = (&'static str, &'static str);

    fn seen(pairs: &[Header], real_ip: bool) -> Option<String> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        let is_trusted = |address: IpAddr| address.to_string().starts_with("10.");
        client(&map, is_trusted, real_ip).map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_nearest_hop_that_is_no_proxy_of_ours() {
        let table: [(&[Header], Option<&str>); 13] = [
            (&[("x-forwarded-for", "203.0.113.7")], Some("203.0.113.7")),
            // What is before the nearest stranger was written by that stranger.
            (
                &[("x-forwarded-for", "198.51.100.1, 203.0.113.7, 10.0.0.2")],
                Some("203.0.113.7"),
            ),
            (
                &[("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.7")],
                Some("203.0.113.7"),
            ),
            (&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], Some("10.0.0.3")),
            (&[("x-forwarded-for", "203.0.113.7:4711")], Some("203.0.113.7")),
            (&[("x-forwarded-for", "[2001:db8::1]:4711")], Some("2001:db8::1")),
            (&[("x-forwarded-for", "::ffff:203.0.113.7")], Some("203.0.113.7")),
            (&[("x-forwarded-for", "203.0.113.7, unknown")], None),
            (&[("x-forwarded-for", "")], None),
            (
                &[("forwarded", "for=198.51.100.1, proto=https;for=\"[2001:db8::1]:4711\"")],
                Some("2001:db8::1"),
            ),
            (&[("forwarded", "for=_hidden")], None),
            (
                &[("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7")],
                Some("203.0.113.7"),
            ),
            (
                &[("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=198.51.100.1")],
                None,
            ),
        ];
        for (headers, expected) in table {
            assert_eq!(seen(headers, false).as_deref(), expected, "{headers:?}");
        }
    }

    #[test]
    fn x_real_ip_counts_only_where_it_was_asked_for_and_nothing_else_is_there() {
        let real = ("x-real-ip", "203.0.113.7");
        assert_eq!(seen(&[real], false), None);
        assert_eq!(seen(&[real], true).as_deref(), Some("203.0.113.7"));
        let both = [real, ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(seen(&both, true).as_deref(), Some("198.51.100.1"));
    }
}
