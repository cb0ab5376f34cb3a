package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	defaultEndpoint = "http://127.0.0.1:2379"

	dialTimeout      = 5 * time.Second
	keepAlive        = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// A target says which etcd to use, and how the user chose it.
type target struct {
	endpoints []string
	from      string
}

// target finds the etcd to use: flag, then environment, then a running
// `conclave dev`, then the default address.
func (a *app) target() (target, error) {
	for _, source := range []struct {
		api, endpoints     []string
		apiName, etcdsName string
	}{
		{a.flags.api, a.flags.endpoints, "--api", "--endpoints"},
		{list(a.env["CONCLAVE_API"]), list(a.env["CONCLAVE_ENDPOINTS"]), "CONCLAVE_API", "CONCLAVE_ENDPOINTS"},
	} {
		switch {
		case len(source.api) > 0 && len(source.endpoints) > 0:
			return target{}, usage("invalid_target", "give one of the two", "%s and %s are both given", source.apiName, source.etcdsName)
		case len(source.api) > 0:
			return target{}, usage("invalid_api", "use --endpoints or CONCLAVE_ENDPOINTS",
				"%s: this build has no host API, it reaches etcd directly", source.apiName)
		case len(source.endpoints) > 0:
			return target{source.endpoints, source.etcdsName}, checkEndpoints(source.etcdsName, source.endpoints)
		}
	}
	if a.flags.authToken != "" {
		return target{}, usage("invalid_auth-token", "use --cert and --key with --endpoints",
			"--auth-token is for a host API, and this build has none")
	}
	return a.defaultTarget()
}

// defaultTarget is what to use when nothing was said.
func (a *app) defaultTarget() (target, error) {
	running := a.runningDevs()
	switch len(running) {
	case 0:
		return target{[]string{defaultEndpoint}, "the default"}, nil
	case 1:
		return target{running[0].Endpoints, "conclave dev"}, nil
	}
	var all []string
	for _, dev := range running {
		all = append(all, dev.Endpoints...)
	}
	return target{}, usage("invalid_target", "choose one with --endpoints: "+strings.Join(all, ", "),
		"%d conclave dev are running, and none was chosen", len(running))
}

func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func checkEndpoints(name string, endpoints []string) error {
	for _, e := range endpoints {
		if _, err := address(e); err != nil {
			return usage("invalid_endpoints", "such as http://127.0.0.1:2379", "%s: %q is not host:port or a URL of it", name, e)
		}
	}
	return nil
}

// address returns the host:port of an endpoint.
func address(endpoint string) (string, error) {
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
			return "", fmt.Errorf("endpoint %q", endpoint)
		}
		endpoint = u.Host
	}
	_, port, err := net.SplitHostPort(endpoint)
	if err == nil && port == "" {
		err = errors.New("no port")
	}
	return endpoint, err
}

// setting returns a flag's value, else the environment's, else fallback.
func (a *app) setting(flag, env, fallback string) string {
	if flag != "" {
		return flag
	}
	if v := a.env[env]; v != "" {
		return v
	}
	return fallback
}

func (a *app) namespace() string {
	return a.setting(a.flags.namespace, "CONCLAVE_NAMESPACE", "default")
}

// dial returns a client for the target after it has answered a connection.
func (a *app) dial(ctx context.Context, t target) (*clientv3.Client, error) {
	cfg := clientv3.Config{
		Endpoints: t.endpoints, DialTimeout: dialTimeout,
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
		Logger: zap.NewNop(),
	}
	info := transport.TLSInfo{
		TrustedCAFile: a.setting(a.flags.cacert, "CONCLAVE_CACERT", ""),
		CertFile:      a.setting(a.flags.cert, "CONCLAVE_CERT", ""),
		KeyFile:       a.setting(a.flags.key, "CONCLAVE_KEY", ""),
	}
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

func unavailable(t target, err error) *Error {
	hint := "start one with: conclave dev; or name one with --endpoints"
	if t.from == "--endpoints" || t.from == "CONCLAVE_ENDPOINTS" {
		hint = "check " + t.from + ", and that etcd runs there"
	}
	message := fmt.Sprintf("no etcd at %s: %s", strings.Join(t.endpoints, ", "), oneLine(err))
	if errors.Is(err, context.DeadlineExceeded) {
		message = fmt.Sprintf("etcd at %s does not answer", strings.Join(t.endpoints, ", "))
	}
	return &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_quorum", Hint: hint, Message: message, cause: err}
}
