package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
)

// answering bounds a call that waits for nothing but an answer, when the user did
// not say --timeout. A forced release takes the holder's grace, of 10 s at most.
const answering = 30 * time.Second

var (
	errTimedOut = errors.New("timed out")
	errNoAnswer = errors.New("no answer")
)

// host returns a client of the target's hosts.
func (a *app) host(t target) (*remote.Client, error) {
	with, err := a.access(t)
	if err != nil {
		return nil, err
	}
	c, err := remote.New(remote.Config{URLs: t.api, CACert: with.cacert, Cert: with.cert, Key: with.key, Token: with.token})
	if errors.Is(err, remote.ErrTLS) {
		return nil, usage("invalid_tls", "check --cacert, --cert and --key", "%v", err)
	}
	return c, err
}

// bounded ends what a command asks of the cluster: after --timeout, or after the
// default, if it has one.
func (a *app) bounded(ctx context.Context, otherwise time.Duration) (context.Context, context.CancelFunc) {
	switch {
	case a.flags.timeout.set:
		return context.WithTimeoutCause(ctx, a.flags.timeout.value, errTimedOut)
	case otherwise > 0:
		return context.WithTimeoutCause(ctx, otherwise, errNoAnswer)
	}
	return context.WithCancel(ctx)
}

// explain says why a call that ctx bounds failed.
func explain(ctx context.Context, t target, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := asError(err); ok {
		return err
	}
	switch e := describe(err); {
	case e.Exit == ExitUnknown:
		return e
	case t.direct() && e.Reason == "unauthenticated":
		e.Hint = etcdLoginHint // no host is between
		return e
	}
	if _, bounded := ctx.Deadline(); bounded && status.Code(err) == codes.DeadlineExceeded {
		<-ctx.Done() // the host's clock was a moment ahead
	}
	unreachable, ok := errors.AsType[*remote.UnreachableError](err)
	switch {
	case errors.Is(context.Cause(ctx), errTimedOut):
		return &Error{Exit: ExitTimeout, Code: codeName(codes.DeadlineExceeded), Reason: "timeout", cause: err,
			Message: "not done before --timeout"}
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return unavailable(t, fmt.Errorf("%w: %w", context.DeadlineExceeded, err))
	case ok:
		e := unavailable(t, unreachable.Err)
		e.Reason = "no_host"
		switch said := unreachable.Error(); {
		case strings.Contains(said, "certificate required"), strings.Contains(said, "broken pipe") && strings.Contains(t.addresses(), "https://"):
			// TLS 1.3: the refusal comes after the client's side of the handshake, and may meet what it writes.
			e.Hint = "the host may ask its callers for a certificate: name yours with --cert and --key"
		case strings.Contains(said, "certificate"):
			e.Hint = "name the authority that signed it with --cacert"
		case strings.Contains(said, "server preface") && !strings.Contains(t.addresses(), "https://"):
			e.Hint = "if it speaks TLS, write https:// in the URL"
		}
		return e
	}
	return err
}
