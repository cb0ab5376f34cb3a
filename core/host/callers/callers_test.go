package callers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/router"
)

var silent = slog.New(slog.DiscardHandler)

const (
	public = recipev1.Permission_PERMISSION_PUBLIC
	read   = recipev1.Permission_PERMISSION_READ
	write  = recipev1.Permission_PERMISSION_WRITE
	admin  = recipev1.Permission_PERMISSION_ADMIN
	none   = recipev1.Permission_PERMISSION_UNSPECIFIED
)

func sum(token string) string {
	s := sha256.Sum256([]byte(token))
	return hex.EncodeToString(s[:])
}

func file(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "callers.yaml")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func book(t *testing.T, text string) *Book {
	t.Helper()
	b, err := Open(file(t, text), silent)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var three = `callers:
  - {name: ci, token_sha256: ` + sum("secret") + `, may: write}
  - {name: alice, certificate: alice, may: admin}
`

// from is the context of a call that shows these.
func from(network, authorization, cert string) context.Context {
	p := &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
	if network == "unix" {
		p.Addr = &net.UnixAddr{Name: "@", Net: "unix"}
	}
	if cert != "" {
		p.AuthInfo = credentials.TLSInfo{State: shows(cert)}
	}
	md := metadata.MD{}
	if authorization != "" {
		md.Set("authorization", authorization)
	}
	return metadata.NewIncomingContext(peer.NewContext(context.Background(), p), md)
}

func shows(cert string) tls.ConnectionState {
	return tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: cert}}}}}
}

func TestWhoMayWhat(t *testing.T) {
	b := book(t, three)
	anonymous := book(t, three+"  - {name: anybody, anonymous: true, may: read}\n")
	everybody, err := Open("", silent)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                        string
		b                           *Book
		network, authorization, crt string
		need                        recipev1.Permission
		want                        string
		code                        codes.Code
	}{
		{"token", b, "tcp", "Bearer secret", "", write, "ci", codes.OK},
		{"token, another case of the scheme", b, "tcp", "bearer secret", "", read, "ci", codes.OK},
		{"token without the right", b, "tcp", "Bearer secret", "", admin, "", codes.PermissionDenied},
		{"no permission declared is administration", b, "tcp", "Bearer secret", "", none, "", codes.PermissionDenied},
		{"wrong token", b, "tcp", "Bearer guess", "", read, "", codes.Unauthenticated},
		{"wrong token beside a good certificate", b, "tcp", "Bearer guess", "alice", read, "", codes.Unauthenticated},
		{"another scheme", b, "tcp", "Basic c2VjcmV0", "", read, "", codes.Unauthenticated},
		{"the hash is not the token", b, "tcp", "Bearer " + sum("secret"), "", read, "", codes.Unauthenticated},
		{"empty token", b, "tcp", "Bearer ", "", read, "", codes.Unauthenticated},
		{"certificate", b, "tcp", "", "alice", admin, "alice", codes.OK},
		{"unknown certificate", b, "tcp", "", "bob", read, "", codes.Unauthenticated},
		{"nothing", b, "tcp", "", "", read, "", codes.Unauthenticated},
		{"nothing, of what is public", b, "tcp", "", "", public, "", codes.OK},
		{"socket", b, "unix", "", "", admin, "administrator", codes.OK},
		{"anonymous", anonymous, "tcp", "", "", read, "anybody", codes.OK},
		{"anonymous writes", anonymous, "tcp", "", "", write, "", codes.PermissionDenied},
		{"anonymous does not save a wrong token", anonymous, "tcp", "Bearer guess", "", read, "", codes.Unauthenticated},
		{"nobody is asked", everybody, "tcp", "", "", admin, "", codes.OK},
		{"nobody is asked, with a certificate", everybody, "tcp", "", "bob", admin, "bob", codes.OK},
	} {
		who, err := c.b.Authorize(from(c.network, c.authorization, c.crt), &router.Method{FullName: "/a.B/C", Permission: c.need})
		if who != c.want || status.Code(err) != c.code {
			t.Errorf("%s: got %q, %v, want %q, %v", c.name, who, err, c.want, c.code)
		}
	}
}

func TestHTTP(t *testing.T) {
	tcp := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	h := book(t, three).Wrap(write, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, c := range []struct {
		local                       net.Addr
		remote, authorization, cert string
		want                        int
	}{
		{tcp, "127.0.0.1:1", "", "", http.StatusUnauthorized},
		{tcp, "127.0.0.1:1", "Bearer secret", "", http.StatusTeapot},
		{tcp, "127.0.0.1:1", "", "alice", http.StatusTeapot},
		{tcp, "[::1]:1", "", "", http.StatusUnauthorized},
		{tcp, "", "", "", http.StatusUnauthorized}, // the system did not tell who it is
		{nil, "@", "", "", http.StatusUnauthorized},
		{&net.UnixAddr{Net: "unix"}, "@", "", "", http.StatusTeapot},
	} {
		r := httptest.NewRequest(http.MethodGet, "/sd", nil)
		r.RemoteAddr = c.remote
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.local))
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		if c.cert != "" {
			state := shows(c.cert)
			r.TLS = &state
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%+v: got %d", c, w.Code)
		}
	}
}

func TestFileIsFollowed(t *testing.T) {
	f := file(t, three)
	b, err := Open(f, silent)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	b.now = func() time.Time { return now }
	try := func() codes.Code {
		_, err := b.Authorize(from("tcp", "Bearer other", ""), &router.Method{Permission: read})
		return status.Code(err)
	}
	replace := func(text string) {
		now = now.Add(2 * lookEvery)
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(f, now, now); err != nil {
			t.Fatal(err)
		}
	}
	if try() != codes.Unauthenticated {
		t.Fatal("a caller who is not in the file was let in")
	}
	replace("callers: [{name: other, token_sha256: " + sum("other") + ", may: read}]\n")
	if try() != codes.OK {
		t.Error("a new caller was refused")
	}
	for _, broken := range []string{"", "callers: []\n", "callers: [{name: x}]\n", "{"} {
		replace(broken)
		if try() != codes.OK {
			t.Errorf("a broken file %q took away what counted before", broken)
		}
	}
	// A file whose mode is put right has no other time than before.
	must(t, os.Chmod(f, 0o604))
	replace(three)
	if try() != codes.OK {
		t.Error("a file that everybody can read was read")
	}
	must(t, os.Chmod(f, 0o600))
	now = now.Add(2 * lookEvery)
	if try() != codes.Unauthenticated {
		t.Error("a caller who was taken out was let in")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	entry := func(s string) string { return "callers:\n  - {name: a, certificate: a, may: read}\n  - " + s + "\n" }
	for want, text := range map[string]string{
		"callers: is empty":                    "callers: []",
		"unknown field \"caller\"":             "caller: []",
		"callers[1]: name: is empty":           entry("{certificate: b, may: read}"),
		`may: "all" is not one of`:             entry("{name: b, certificate: b, may: all}"),
		"has one of token_sha256":              entry("{name: b, may: read}"),
		"has one of token_sha256, certificate": entry("{name: b, certificate: b, anonymous: true, may: read}"),
		"certificate: stands in another":       entry("{name: b, certificate: a, may: read}"),
		"token_sha256: is not 64":              entry("{name: b, token_sha256: abc, may: read}"),
	} {
		if _, err := Open(file(t, text), silent); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), silent); err == nil {
		t.Error("a missing file was taken")
	}
}

func TestAdd(t *testing.T) {
	f := filepath.Join(t.TempDir(), "callers.yaml")
	token, sha := NewToken()
	if err := Add(f, Entry{Name: "ci: one", TokenSHA256: sha, May: "write"}); err != nil {
		t.Fatal(err)
	}
	if err := Add(f, Entry{Name: "bob", Certificate: "bob", May: "read"}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := Add(f, Entry{Name: "bob again", Certificate: "bob", May: "read"}); err == nil {
		t.Error("a certificate was taken twice")
	}
	if after, err := os.ReadFile(f); err != nil || !bytes.Equal(after, before) {
		t.Errorf("after an error the file is %q, %v", after, err)
	}
	b, err := Open(f, silent)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := b.Authorize(from("tcp", "Bearer "+token, ""), &router.Method{Permission: write}); who != "ci: one" || err != nil {
		t.Errorf("got %q, %v", who, err)
	}
	if left, err := filepath.Glob(f + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
