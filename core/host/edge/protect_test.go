package edge_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/conclavehq/conclave/core/host/edge"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{names: []string{"Conclave.example", "other.example:2378"}})
	c := s.client(t, http1)
	_, port, _ := net.SplitHostPort(s.addr)
	for host, status := range map[string]int{
		"":                          200, // the address itself
		"localhost":                 200,
		"LOCALHOST.:" + port:        200,
		"127.0.0.1":                 200,
		"127.0.0.9:1":               200,
		"[::1]":                     200,
		"[::1]:" + port:             200,
		"conclave.example":          200,
		"other.example":             200,
		"evil.example":              403,
		"localhost.evil.example":    403,
		"evil.example:" + port:      403,
		"10.1.2.3":                  403,
		"127.0.0.1.evil.example":    403,
		"conclave.example.evil.org": 403,
	} {
		x := exchange{header: typed("application/json"), body: `{}`, status: status}
		if status == 403 {
			x.code = "permission_denied"
		}
		if host != "" {
			x.header["Host"] = host
		}
		t.Run(host, func(t *testing.T) { x.run(t, c, s.url()) })
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{})
	c := s.client(t, http1)
	for _, x := range []exchange{
		{name: "own page", header: typed("application/json", "Origin", s.url(), "Sec-Fetch-Site", "same-origin"), body: `{}`, status: 200},
		{name: "own page, old browser", header: typed("application/json", "Origin", s.url()), body: `{}`, status: 200},
		{name: "other site", header: typed("application/json", "Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"), body: `{}`, status: 403, code: "permission_denied"},
		{name: "other port", header: typed("application/json", "Sec-Fetch-Site", "same-site"), body: `{}`, status: 403, code: "permission_denied"},
		{name: "other site, old browser", header: typed("application/json", "Origin", "http://evil.example"), body: `{}`, status: 403, code: "permission_denied"},
		{name: "page without an origin", header: typed("application/json", "Origin", "null"), body: `{}`, status: 403, code: "permission_denied"},
		{name: "form of another site", header: typed("text/plain", "Origin", "http://evil.example"), body: `{}`, status: 403, code: "permission_denied"},
		{name: "read of another site", method: http.MethodGet, path: readPath, header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 200,
			check: is("Access-Control-Allow-Origin", "", "Cross-Origin-Resource-Policy", "same-origin")},
	} {
		t.Run(x.name, func(t *testing.T) { x.run(t, c, s.url()) })
	}
}

// TestUnixSocket needs no name: no page reaches it.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(edge.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	defer server.Close()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", l.Addr().String())
	}}
	defer tr.CloseIdleConnections()
	answer := post(within(t), t, &http.Client{Transport: tr}, "http://whatever/", `{}`)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusTeapot {
		t.Errorf("status %d", answer.StatusCode)
	}
}
