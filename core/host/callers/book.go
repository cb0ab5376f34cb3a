package callers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

// administrator is who comes over the socket.
const administrator = "administrator"

// lookEvery is how often the file is looked at, at most.
const lookEvery = time.Second

// A Book says who a caller is and what he may. It is safe for concurrent use.
type Book struct {
	file string
	log  *slog.Logger
	now  func() time.Time

	table atomic.Pointer[table] // nil: nobody is asked
	next  atomic.Int64          // when the file is looked at again, as Unix time in nanoseconds

	mu     sync.Mutex
	seen   time.Time // of the file that was last read
	size   int64
	failed string // why the file cannot be used now, as the log was told
}

// Open reads a file; "" is a book that lets everybody do everything, and names
// those who show a certificate. A file that cannot be used later leaves what was
// read before in place, and the log says so.
func Open(file string, log *slog.Logger) (*Book, error) {
	b := &Book{file: file, log: log, now: time.Now}
	if file == "" {
		return b, nil
	}
	if info, err := os.Stat(file); err == nil {
		b.seen, b.size = info.ModTime(), info.Size()
	}
	t, err := load(file)
	b.table.Store(t)
	return b, err
}

// current returns the table, read anew if the file has changed.
func (b *Book) current() *table {
	t, now := b.table.Load(), b.now()
	if t == nil || now.UnixNano() < b.next.Load() || !b.mu.TryLock() {
		return t
	}
	defer b.mu.Unlock()
	b.next.Store(now.Add(lookEvery).UnixNano())
	info, err := os.Stat(b.file)
	if err == nil && b.failed == "" && info.ModTime().Equal(b.seen) && info.Size() == b.size {
		return t
	}
	if err == nil {
		b.seen, b.size = info.ModTime(), info.Size()
		var next *table
		if next, err = load(b.file); err == nil {
			b.failed = ""
			b.log.Info("the file of callers was read anew", "file", b.file)
			b.table.Store(next)
			return next
		}
	}
	// It is tried again: what mends it, such as chmod, need not change its time.
	if text := err.Error(); text != b.failed {
		b.failed = text
		b.log.Error("the changed file of callers cannot be used; the former one still counts", "error", err)
	}
	return t
}

// Authorize implements router.Authorizer.
func (b *Book) Authorize(ctx context.Context, m *router.Method) (string, error) {
	p, _ := peer.FromContext(ctx)
	var cert string
	overSocket := false
	if p != nil {
		cert = commonName(p.AuthInfo)
		overSocket = p.Addr != nil && p.Addr.Network() == "unix"
	}
	token := ""
	if v := metadata.ValueFromIncomingContext(ctx, "authorization"); len(v) > 0 {
		token = v[0]
	}
	return b.decide(overSocket, token, cert, m.Permission, m.FullName)
}

// Wrap lets only those through to h who may do what need asks for.
func (b *Book) Wrap(need recipev1.Permission, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cert := ""
		if r.TLS != nil {
			cert = commonName(credentials.TLSInfo{State: *r.TLS})
		}
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		overSocket := local != nil && local.Network() == "unix"
		_, err := b.decide(overSocket, r.Header.Get("Authorization"), cert, need, r.URL.Path)
		switch status.Code(err) {
		case codes.OK:
			h.ServeHTTP(w, r)
		case codes.Unauthenticated:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, status.Convert(err).Message(), http.StatusUnauthorized)
		default:
			http.Error(w, status.Convert(err).Message(), http.StatusForbidden)
		}
	})
}

// commonName is that of a certificate which the listener's authority has signed.
func commonName(info credentials.AuthInfo) string {
	t, ok := info.(credentials.TLSInfo)
	if !ok || len(t.State.VerifiedChains) == 0 {
		return ""
	}
	return t.State.VerifiedChains[0][0].Subject.CommonName
}

func (b *Book) decide(overSocket bool, authorization, cert string, need recipev1.Permission, what string) (string, error) {
	t := b.current()
	if t == nil {
		return cert, nil
	}
	if overSocket {
		return administrator, nil
	}
	c, err := t.find(authorization, cert)
	switch {
	case level(need) < 0:
		if c == nil {
			return "", nil
		}
		return c.name, nil
	case err != nil:
		return "", err
	case c.may < level(need):
		return "", reason.Errorf(codes.PermissionDenied, "not_permitted", "%s asks for %s, and %s may %s", what, levels[level(need)], c.name, levels[c.may])
	}
	return c.name, nil
}

// find returns who shows these. A wrong token is refused also where nobody needs one.
func (t *table) find(authorization, cert string) (*caller, error) {
	if authorization != "" {
		scheme, token, _ := strings.Cut(authorization, " ")
		if !strings.EqualFold(scheme, "bearer") {
			return nil, reason.Errorf(codes.Unauthenticated, "unauthenticated", "authorization is not Bearer and a token")
		}
		sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if c, ok := t.tokens[hex.EncodeToString(sum[:])]; ok {
			return &c, nil
		}
		return nil, reason.Errorf(codes.Unauthenticated, "unauthenticated", "the token is not one of this host's callers")
	}
	if c, ok := t.certificates[cert]; ok && cert != "" {
		return &c, nil
	}
	if t.anonymous != nil {
		return t.anonymous, nil
	}
	if cert != "" {
		return nil, reason.Errorf(codes.Unauthenticated, "unauthenticated", "%q, of the certificate, is not one of this host's callers", cert)
	}
	return nil, reason.Errorf(codes.Unauthenticated, "unauthenticated", "this host asks who calls: give a token or a certificate")
}
