package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclavehq/conclave/core"
)

// A Probe looks at an instance once: nil says that it is well, an error that is
// [ErrWarning] that somebody should look, any other error that it fails. It has
// to return when ctx ends.
type Probe func(ctx context.Context) error

// ErrWarning marks the error of a [Probe] after which requests may still come.
var ErrWarning = errors.New("warning")

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
		return get(u.String()), nil
	case "tcp":
		return connect(u.Host), nil
	case "grpc":
		return serving(u, insecure.NewCredentials()), nil
	case "grpcs":
		return serving(u, credentials.NewTLS(nil)), nil
	}
	return nil, fmt.Errorf("%w: check: the scheme %.40q is not http, https, tcp, grpc, grpcs or exec", core.ErrInvalid, u.Scheme)
}

func get(address string) Probe {
	// Each look dials, as a new client would.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
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

func connect(addr string) Probe {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func serving(u *url.URL, creds credentials.TransportCredentials) Probe {
	service := strings.TrimPrefix(u.Path, "/")
	return func(ctx context.Context) error {
		c, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(creds))
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

// A Check says how often to probe, and how much to believe. Zero values are the
// defaults.
type Check struct {
	Probe    Probe         // required
	Interval time.Duration // between two probes: 10 s
	Timeout  time.Duration // of one probe: 5 s, and never more than the interval
	Rise     int           // successes in a row after which it is well again: 2
	Fall     int           // failures in a row after which it is not: 3
}

func (c Check) normal() (Check, error) {
	if c.Interval == 0 {
		c.Interval = 10 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Rise == 0 {
		c.Rise = 2
	}
	if c.Fall == 0 {
		c.Fall = 3
	}
	c.Timeout = min(c.Timeout, c.Interval)
	if c.Probe == nil || c.Interval < 0 || c.Timeout < 0 || c.Rise < 0 || c.Fall < 0 {
		return c, fmt.Errorf("%w: check: it needs a probe, and nothing in it may be negative", core.ErrInvalid)
	}
	return c, nil
}

// Monitor probes until ctx ends, and calls tell with the first state, after the
// first probe, and with every change of it, together with what the last probe
// said. It changes its mind only after as many probes in a row as the check says,
// so that one lost packet takes nothing out of service. tell must not block for
// longer than the interval. The error is core.ErrInvalid, or ctx's cause.
func Monitor(ctx context.Context, c Check, tell func(s State, why error)) error {
	c, err := c.normal()
	if err != nil {
		return err
	}
	h := hysteresis{check: c}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, c.Timeout)
		err := c.Probe(within)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s, changed := h.saw(err); changed {
			tell(s, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hysteresis is what a check believes.
type hysteresis struct {
	check Check
	state State // "": nothing yet
	next  State // what the last probes said
	inRow int
}

func (h *hysteresis) saw(err error) (s State, changed bool) {
	s = Passing
	switch {
	case errors.Is(err, ErrWarning):
		s = Warning
	case err != nil:
		s = Critical
	}
	if s != h.next {
		h.next, h.inRow = s, 0
	}
	h.inRow++
	needed := h.check.Rise
	if s == Critical {
		needed = h.check.Fall
	}
	if s == h.state || h.state != "" && h.inRow < needed {
		return h.state, false
	}
	h.state = s
	return s, true
}

// Monitor probes, as the function [Monitor] does, and has the instance registered
// in the state that it finds, until ctx or the registration ends. It returns why.
// An instance that drains, or is in maintenance, stays so.
func (g *Registration) Monitor(ctx context.Context, c Check) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(&g.ctx, func() { cancel(context.Cause(&g.ctx)) })()
	return Monitor(ctx, c, func(s State, why error) {
		within, cancel := context.WithTimeout(ctx, answering)
		defer cancel()
		err := g.amend(within, func(i Instance) (Instance, bool) {
			if i.State == Draining || i.State == Maintenance {
				return i, false
			}
			i.State = s
			return i, true
		})
		g.r.log.Info("an instance changes its state", "service", g.service, "id", g.id, "state", string(s), "probe", why)
		if err != nil { // the registrar goes on trying
			g.r.log.Debug("the state is not registered yet", "error", err)
		}
	})
}
