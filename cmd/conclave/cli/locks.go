package cli

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	recipelock "github.com/conclavehq/conclave/recipes/lock"
)

// locks is the lock API of a target.
type locks = service[lockv1.LockServiceClient]

// withLocks runs work with the lock API of the target. In this process it keeps no
// history: that is for hosts, which are always there.
func (a *app) withLocks(ctx context.Context, work func(ctx context.Context, t target, l locks) error) error {
	r := standardRecipe[lockv1.LockServiceClient]{recipelock.Recipe{}, &lockv1.Config{HistoryOff: true}, lockv1.NewLockServiceClient}
	return withService(ctx, a, r, answering, work)
}

// allLocks returns every lock whose name begins with prefix.
func allLocks(ctx context.Context, l locks, namespace, prefix string) ([]*lockv1.Lock, error) {
	var all []*lockv1.Lock
	req := &lockv1.ListRequest{Namespace: namespace, Prefix: prefix, PageSize: 1000}
	for {
		resp, err := ask(ctx, l, lockv1.LockServiceClient.List, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetLocks()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}

func nobodyHolds(name string) *Error {
	return &Error{Exit: ExitNotFound, Code: codeName(codes.NotFound), Reason: "not_found", cause: errors.New("not held"),
		Message: fmt.Sprintf("lock %q: nobody holds it", name), Hint: "see who waits with: conclave lock why " + quoted(name)}
}
