package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
)

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

// notAcquired says that --wait has elapsed, if that is why.
func (f lockFlags) notAcquired(waiting context.Context, name string, err error) error {
	if !f.elapsed(waiting, err, "locked") {
		return err
	}
	by := waitedError(errWaited.Error())
	if _, holder, ok := strings.Cut(describe(err).Message, "locked: "); ok {
		by = waitedError(holder) // a host says who
	}
	return fmt.Errorf("lock %q: still not free after --wait %s: %w", name, short(f.wait.value), by)
}

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
