package edge

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Protect returns next behind what keeps web pages of others away from it.
//
// A request must name the server as localhost, as a loopback address, as the
// address on which it arrived, or as one of names: a page whose own host name
// was pointed here fails that. And a request that a browser sends for a page of
// another origin is refused unless it only reads; the answer to that one the
// browser keeps from the page. Both are 403. Unix sockets need no name: no page
// reaches them.
func Protect(next http.Handler, names ...string) http.Handler {
	p := &protected{next: next, names: map[string]bool{"localhost": true}, origins: http.NewCrossOriginProtection()}
	for _, n := range names {
		p.names[hostName(n)] = true
	}
	return p
}

type protected struct {
	next    http.Handler
	names   map[string]bool
	origins *http.CrossOriginProtection
}

// ServeHTTP implements [http.Handler].
func (p *protected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.known(r) {
		refused("host %q is not one of this server's names; add it to api.names if it is", r.Host).refuse(w, r)
		return
	}
	if err := p.origins.Check(r); err != nil {
		refused("requests of pages of other origins are refused").refuse(w, r)
		return
	}
	h := w.Header()
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cross-Origin-Resource-Policy"] = []string{"same-origin"}
	p.next.ServeHTTP(w, r)
}

// known reports whether the request names this server.
func (p *protected) known(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local != nil && local.Network() == "unix" {
		return true
	}
	name := hostName(r.Host)
	if p.names[name] {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	tcp, ok := local.(*net.TCPAddr)
	return addr.IsLoopback() || ok && tcp.AddrPort().Addr().Unmap() == addr.Unmap()
}

// hostName returns the name in a Host header: without the port and brackets, in
// lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
