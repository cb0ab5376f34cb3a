package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	dialTimeout      = 5 * time.Second
	keepAlive        = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// A login is a user of etcd's. Empty: none, but perhaps the name in a certificate.
type login struct{ user, password string }

// dial returns a client for the etcd of the target after it has answered a connection.
func (a *app) dial(ctx context.Context, t target) (*clientv3.Client, error) {
	return a.dialAs(ctx, t, login{})
}

// dialAs is dial with a login.
func (a *app) dialAs(ctx context.Context, t target, as login) (*clientv3.Client, error) {
	with, err := a.access(t)
	if err != nil {
		return nil, err
	}
	cfg := clientv3.Config{
		Endpoints: t.endpoints, DialTimeout: dialTimeout,
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
		Logger: zap.NewNop(), Username: as.user, Password: as.password,
	}
	info := transport.TLSInfo{TrustedCAFile: with.cacert, CertFile: with.cert, KeyFile: with.key}
	if info.TrustedCAFile != "" || info.CertFile != "" || info.KeyFile != "" {
		tls, err := info.ClientConfig()
		if err != nil {
			return nil, usage("invalid_tls", "check --cacert, --cert and --key", "TLS: %v", err)
		}
		cfg.TLS = tls
	}
	if err := reach(ctx, t); err != nil {
		return nil, err
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		if e := describe(rpctypes.Error(err)); as.user != "" && e.Exit == ExitPermission {
			return nil, e // etcd is there, and New has logged in
		}
		return nil, unavailable(t, err)
	}
	return c, nil
}

// reach opens a bare connection to find out at once that nobody listens: gRPC
// would go on trying.
func reach(ctx context.Context, t target) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	results := make(chan error, len(t.endpoints))
	for _, e := range t.endpoints {
		go func() {
			addr, err := address(e)
			if err == nil {
				var conn net.Conn
				if conn, err = new(net.Dialer).DialContext(ctx, "tcp", addr); err == nil {
					err = conn.Close()
				}
			}
			results <- err
		}()
	}
	var last error
	reached := false
	for range t.endpoints {
		if err := <-results; err == nil {
			reached = true
			cancel()
		} else if last == nil {
			last = err
		}
	}
	if reached {
		return nil
	}
	return unavailable(t, last)
}

// unavailable is the error for a target that nobody answers at.
func unavailable(t target, err error) *Error {
	what, chosen := "host", "start one with: conclave dev; or name one with --api"
	if t.direct() {
		what, chosen = "etcd", "start one with: conclave dev; or name one with --endpoints"
	}
	switch t.from {
	case "the default", "conclave dev":
	default:
		chosen = fmt.Sprintf("check %s, and that %s runs there", t.from, map[string]string{"host": "a host", "etcd": "etcd"}[what])
	}
	message := fmt.Sprintf("no %s at %s: %s", what, t.addresses(), oneLine(err))
	if errors.Is(err, context.DeadlineExceeded) {
		message = fmt.Sprintf("the %s at %s does not answer", what, t.addresses())
		if t.direct() {
			message = fmt.Sprintf("etcd at %s does not answer", t.addresses())
		}
	}
	return &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_quorum", Hint: chosen, Message: message, cause: err}
}
