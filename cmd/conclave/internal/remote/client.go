package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/recipe"
)

const (
	connecting = 3 * time.Second // the longest time to connect to one host
	maxMessage = 16 << 20
)

// ErrTLS wraps what is wrong with the certificates of a Config.
var ErrTLS = errors.New("TLS")

// Config says which hosts to use and how.
type Config struct {
	URLs              []string // http://host:port, https://host:port, host:port or unix:///path; any will do
	CACert, Cert, Key string   // files; for https only
	Token             string   // sent with every call if it is not empty
}

// A Client calls hosts. It is safe for concurrent use.
type Client struct {
	hosts []*host

	mu      sync.Mutex
	current int
	closed  bool
}

// A host is one address, and the connection to it that is in use.
type host struct {
	url    string
	target string
	opts   []grpc.DialOption
	conn   *grpc.ClientConn // guarded by the client's mu
}

// An UnreachableError says that no host could be connected to.
type UnreachableError struct {
	URLs []string
	Err  error // of the last one that was tried
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no host at %s: %v", strings.Join(e.URLs, ", "), e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// New returns a client of the hosts. It connects when it is first used. The
// error is [ErrTLS] if the certificates cannot be used.
func New(cfg Config) (*Client, error) {
	c := &Client{}
	for _, u := range cfg.URLs {
		h, err := newHost(u, cfg)
		if err != nil {
			return nil, err
		}
		c.hosts = append(c.hosts, h)
	}
	for _, h := range c.hosts {
		var err error
		if h.conn, err = h.dial(); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func newHost(address string, cfg Config) (*host, error) {
	h := &host{url: address, target: "passthrough:///" + address}
	creds := insecure.NewCredentials()
	switch u, err := url.Parse(address); {
	case err == nil && u.Scheme == "unix":
		h.target = "unix://" + u.Path
	case err == nil && u.Host != "":
		h.target = "dns:///" + u.Host
		if net.ParseIP(u.Hostname()) != nil {
			h.target = "passthrough:///" + u.Host
		}
		if u.Scheme == "https" {
			if creds, err = secure(cfg); err != nil {
				return nil, err
			}
		}
	}
	h.opts = []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithUserAgent("conclave"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connecting,
		}),
	}
	if cfg.Token != "" {
		h.opts = append(h.opts, grpc.WithChainUnaryInterceptor(unaryToken(cfg.Token)), grpc.WithChainStreamInterceptor(streamToken(cfg.Token)))
	}
	return h, nil
}

func secure(cfg Config) (credentials.TransportCredentials, error) {
	info := transport.TLSInfo{TrustedCAFile: cfg.CACert, CertFile: cfg.Cert, KeyFile: cfg.Key}
	if info.TrustedCAFile == "" && info.CertFile == "" && info.KeyFile == "" {
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), nil
	}
	t, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTLS, err)
	}
	return credentials.NewTLS(t), nil
}

func unaryToken(token string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return call(withToken(ctx, token), method, req, reply, cc, opts...)
	}
}

func streamToken(token string) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return open(withToken(ctx, token), desc, cc, method, opts...)
	}
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func (h *host) dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(h.target, h.opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.url, err)
	}
	return conn, nil
}

// Close ends all connections and every call on them.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for _, h := range c.hosts {
		if h.conn != nil {
			errs = append(errs, h.conn.Close())
		}
	}
	return errors.Join(errs...)
}

// Do makes one call that may be repeated: at the host in use, and at the others in
// turn as long as the answer is that a host is unavailable. The error is an
// *UnreachableError if none answered anything.
func (c *Client) Do(ctx context.Context, call func(cc grpc.ClientConnInterface) error) error {
	var answered, last error
	for range c.hosts {
		conn := c.conn()
		err := call(conn)
		if _, bounded := ctx.Deadline(); bounded && status.Code(err) == codes.DeadlineExceeded {
			<-ctx.Done() // the host's clock was a moment ahead; the caller asks ctx for the cause
		}
		if !lostHost(ctx, err) {
			return err
		}
		last = err
		if recipe.Reason(err) != "" {
			answered = err
		}
		if ctx.Err() != nil {
			break
		}
		c.next(conn, false)
	}
	if answered != nil {
		return answered
	}
	return &UnreachableError{URLs: c.urls(), Err: dialing(last)}
}

// Once makes one call that must not be repeated, at the first host that can be
// reached. An error after which the call may have been carried out is UNKNOWN with
// the reason outcome_unknown.
func (c *Client) Once(ctx context.Context, call func(cc grpc.ClientConnInterface) error) error {
	return c.Do(ctx, func(cc grpc.ClientConnInterface) error {
		// gRPC does not tell a call that was never sent from one that was cut off.
		if _, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) == codes.Unavailable {
			return err
		}
		err := call(cc)
		if err != nil && recipe.Reason(err) == "" && (status.Code(err) == codes.Unavailable || ctx.Err() != nil) {
			return recipe.Errorf(codes.Unknown, "outcome_unknown", "the host did not answer: %s", status.Convert(err).Message())
		}
		return err
	})
}

// conn returns the connection in use.
func (c *Client) conn() *grpc.ClientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[c.current].conn
}

// next goes on to the next host, unless somebody did already. With drop the
// connection is ended: calls on it would wait for a host that does not answer.
func (c *Client) next(from *grpc.ClientConn, drop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[c.current]
	if h.conn != from || c.closed {
		return
	}
	c.current = (c.current + 1) % len(c.hosts)
	if !drop {
		return
	}
	// An error of Close says that it was closed already; one of dial cannot be, as
	// it does no I/O and the same was accepted before.
	_ = h.conn.Close()
	if conn, err := h.dial(); err == nil {
		h.conn = conn
	}
}

func (c *Client) urls() []string {
	urls := make([]string, len(c.hosts))
	for i, h := range c.hosts {
		urls[i] = h.url
	}
	return urls
}

// lostHost reports whether an error says that the host could not be asked, or
// could not ask etcd: another one may.
func lostHost(ctx context.Context, err error) bool {
	switch status.Code(err) {
	case codes.Unavailable:
		return true
	case codes.Canceled:
		return ctx.Err() == nil // nobody cancelled: the connection was given up
	}
	return false
}

// dialing is what the error of a call says of a connection that could not be made.
func dialing(err error) error {
	text := status.Convert(err).Message()
	for _, prefix := range []string{"connection error: desc = ", "transport: ", "Error while dialing: "} {
		text = strings.TrimPrefix(strings.Trim(text, `"`), prefix)
	}
	return errors.New(text)
}
