package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// patience bounds a check unless Config.Patience does.
const patience = 2 * time.Minute

// A Check is one thing that every recipe promises.
type Check struct {
	// Name is short and stable, for reports.
	Name string
	// Promise is the sentence that a recipe which passes may claim.
	Promise string

	run  func(ctx context.Context, s *Suite) error
	only []Carrier // where it says something; empty: everywhere
}

// Checks returns what is checked where the suite's subject runs, in the order in
// which it runs.
func (s *Suite) Checks() []Check {
	return slices.DeleteFunc(Checks(), func(c Check) bool { return len(c.only) > 0 && !slices.Contains(c.only, s.subject.carrier) })
}

// Checks returns all checks.
func Checks() []Check {
	inside, program := []Carrier{InProcess, Connection}, []Carrier{Subprocess}
	return []Check{
		{Name: "info", Promise: "Its description is complete and the same at every look", run: checkInfo},
		{Name: "descriptors", Promise: "Every service and message can be resolved by reflection, and every method says what it is", run: checkDescriptors},
		{Name: "config", Promise: "A configuration with a mistake is refused before anything runs, and the field is named", run: checkConfig},
		{Name: "errors", Promise: "Every refusal is a gRPC status with a reason, whatever the request", run: checkErrors},
		{Name: "log", Promise: "What it logs reaches the host at its own level", run: checkLog},
		{Name: "guard", Promise: "It reaches its own keys, and no others", run: checkGuard, only: inside},
		{Name: "retry", Promise: "A call that is repeated with the same session takes nothing twice", run: checkRetry},
		{Name: "deadline", Promise: "A call that waits ends with its deadline, and leaves nothing in line", run: checkDeadline},
		{Name: "cancel", Promise: "A call that is given up leaves nothing in line", run: checkCancel},
		{Name: "side-by-side", Promise: "Two hosts serve the same state", run: checkSideBySide},
		{Name: "restart", Promise: "It answers again after it was killed", run: checkRestart},
		{Name: "ownership", Promise: "What callers own outlives it", run: checkOwnership},
		{Name: "pause", Promise: "While it stands still callers keep what they own, and it goes on afterwards", run: checkPause, only: program},
		{Name: "drain", Promise: "An orderly stop ends calls that wait and keeps their places", run: checkDrain},
		{Name: "reopen", Promise: "It can be opened, closed and opened again", run: checkReopen},
		{Name: "close", Promise: "It can be closed unused, and twice", run: checkClose},
		{Name: "goroutines", Promise: "It leaves no goroutine behind", run: checkGoroutines, only: inside},
		{Name: "by-hand", Promise: "Started by hand, it says what it is and ends", run: checkByHand, only: program},
		{Name: "protocol", Promise: "It does not pretend to speak a protocol that it does not", run: checkProtocol, only: program},
		{Name: "host-loss", Promise: "It ends when its host is gone", run: checkHostLoss, only: program},
		{Name: "keys", Promise: "It has touched no key but its own", run: checkKeys},
	}
}

// errSkipped marks the error of a check that does not apply.
var errSkipped = errors.New("skipped")

func skip(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errSkipped, fmt.Errorf(format, args...))
}

// Run runs a check. Its Detail says what was expected and what came instead.
func (s *Suite) Run(ctx context.Context, c Check) Result {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	began := time.Now()
	err := c.run(ctx, s)
	r := Result{Check: c.Name, Carrier: s.subject.carrier, Outcome: Passed, Took: time.Since(began)}
	switch {
	case errors.Is(err, errSkipped):
		r.Outcome, r.Detail = Skipped, detail(err)
	case err != nil:
		r.Outcome, r.Detail = Failed, detail(err)
		if ctx.Err() != nil {
			r.Detail = fmt.Sprintf("not so after %v: %s", s.cfg.Patience, r.Detail)
		}
	}
	return r
}

// detail is an error on one line, without the mark of a skipped check.
func detail(err error) string {
	text := err.Error()
	if errors.Is(err, errSkipped) {
		text = text[len(errSkipped.Error())+2:]
	}
	return oneLine(text)
}
