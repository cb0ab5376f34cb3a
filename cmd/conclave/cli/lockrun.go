package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
)

var errWaited = errors.New("held by others")

// lockRun runs argv under the lock.
func (a *app) lockRun(ctx context.Context, name string, argv []string, r lockRequest) error {
	if r.err != nil {
		return r.err
	}
	j, err := a.newJob("lock", name, argv, r.tenure)
	if err != nil {
		return err
	}
	j.own = func(ctx context.Context, s session) (*owned, error) { return s.lock(ctx, name, r.lockFlags) }
	j.refused = lockRefused
	defer j.listen()()
	return j.run(ctx).err
}

// waiting bounds the waiting by --wait, and a little more.
func (f lockFlags) waiting(ctx context.Context, more time.Duration) (context.Context, context.CancelFunc) {
	if f.wait.set && !f.tries() {
		return context.WithTimeoutCause(ctx, f.wait.value+more, errWaited)
	}
	return context.WithCancel(ctx)
}

// notAcquired says that --wait has elapsed, if that is why.
func (f lockFlags) notAcquired(waiting context.Context, name string, err error) error {
	elapsed := errors.Is(context.Cause(waiting), errWaited) || (f.wait.set && !f.tries() && recipe.Reason(err) == "locked")
	if err == nil || !elapsed {
		return err
	}
	by := waitedError(errWaited.Error())
	if _, holder, ok := strings.Cut(describe(err).Message, "locked: "); ok {
		by = waitedError(holder) // a host says who
	}
	return fmt.Errorf("lock %q: still not free after --wait %s: %w", name, short(f.wait.value), by)
}

// A waitedError is errWaited, and says who holds the name.
type waitedError string

func (e waitedError) Error() string { return string(e) }

// Is makes it errWaited.
func (e waitedError) Is(target error) bool { return target == errWaited }

// lockRefused says why a lock was not acquired, if others are the reason.
func lockRefused(err error) *Error {
	switch {
	case errors.Is(err, errWaited), errors.Is(err, lock.ErrLocked), recipe.Reason(err) == "locked":
		return &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "locked", cause: err,
			Message: lockedMessage(err), Hint: "wait longer with --wait, or without it as long as it takes"}
	case errors.Is(err, lock.ErrLimitMismatch), recipe.Reason(err) == "conflict" && strings.Contains(describe(err).Message, "limit mismatch"):
		e := describe(err)
		e.Hint = slotsHint
		return e
	}
	return nil
}

func lockedMessage(err error) string {
	if errors.Is(err, errWaited) {
		return oneLine(err)
	}
	return describe(err).Message
}
