package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclavehq/conclave/core"
)

// NewProbe returns the probe that a URL describes:
//
//   - http://host:port/path and https://…: a GET is answered with 2xx; 429 is a
//     warning.
//   - tcp://host:port: a connection is accepted.
//   - grpc://host:port/service and grpcs://…: the gRPC health service says that
//     the service is serving; without a name, the server.
//   - exec:command argument…: the command exits with 0; 1 is a warning. It is
//     split at spaces, and no shell is between.
//
// The error is core.ErrInvalid.
func NewProbe(check string) (Probe, error) {
	return plainProber().probe(check)
}

// A prober makes probes.
type prober struct {
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	follow bool // an answer that names another address
}

// plainProber is that of a process that looks at itself.
func plainProber() prober {
	var d net.Dialer
	return prober{d.DialContext, true}
}

// guardedProber is that of a host, whom strangers tell where to look: it goes to
// the networks only, or anywhere but to link-local addresses if there are none,
// where clouds keep what is nobody's business. It goes nowhere else because it was
// told to by what it looked at.
func guardedProber(networks []netip.Prefix) prober {
	d := net.Dialer{ControlContext: func(_ context.Context, _, addr string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return err
		}
		if !allowed(to.Addr().Unmap().WithZone(""), networks) {
			return errForbidden
		}
		return nil
	}}
	return prober{d.DialContext, false}
}

var errForbidden = errors.New("hosts do not check at this address")

func allowed(a netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return len(networks) == 0 && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified()
}

func (p prober) probe(check string) (Probe, error) {
	if line, ok := strings.CutPrefix(check, "exec:"); ok {
		argv := strings.Fields(line)
		if len(argv) == 0 {
			return nil, fmt.Errorf("%w: check: the command is missing", core.ErrInvalid)
		}
		return command(argv), nil
	}
	u, err := url.Parse(check)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: check: %.200q is no URL such as http://127.0.0.1:8080/health", core.ErrInvalid, check)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil && u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: check: %.200q has no port", core.ErrInvalid, check)
	}
	switch u.Scheme {
	case "http", "https":
		return p.get(u.String()), nil
	case "tcp":
		return p.connect(u.Host), nil
	case "grpc":
		return p.serving(u, insecure.NewCredentials()), nil
	case "grpcs":
		return p.serving(u, credentials.NewTLS(nil)), nil
	}
	return nil, fmt.Errorf("%w: check: the scheme %.40q is not http, https, tcp, grpc, grpcs or exec", core.ErrInvalid, u.Scheme)
}

func (p prober) get(address string) Probe {
	// Each look dials, as a new client would.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: p.dial}}
	if !p.follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // the status has said what matters
		switch {
		case resp.StatusCode == http.StatusTooManyRequests:
			return fmt.Errorf("%w: %s", ErrWarning, resp.Status)
		case resp.StatusCode/100 != 2:
			return fmt.Errorf("answered %s", resp.Status)
		}
		return nil
	}
}

func (p prober) connect(addr string) Probe {
	return func(ctx context.Context) error {
		c, err := p.dial(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func (p prober) serving(u *url.URL, creds credentials.TransportCredentials) Probe {
	service := strings.TrimPrefix(u.Path, "/")
	return func(ctx context.Context) error {
		c, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return p.dial(ctx, "tcp", addr) }))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		resp, err := healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			return err
		}
		if s := resp.GetStatus(); s != healthpb.HealthCheckResponse_SERVING {
			return fmt.Errorf("says %s", s)
		}
		return nil
	}
}

func command(argv []string) Probe {
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the program's own configuration says what to run
		cmd.WaitDelay = time.Second                           // a child of it may keep a pipe open
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
			return fmt.Errorf("%w: exit code 1", ErrWarning)
		}
		return err
	}
}
