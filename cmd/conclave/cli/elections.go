package cli

import (
	"context"
	"fmt"
	"time"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
	recipeelection "github.com/conclavehq/conclave/recipes/election"
)

// elections is the election API of a target.
type elections = service[electionv1.ElectionServiceClient]

// withElections runs work with the election API of the target. In this process it
// keeps no history: that is for hosts, which are always there.
func (a *app) withElections(ctx context.Context, atMost time.Duration, work func(ctx context.Context, t target, e elections) error) error {
	r := standardRecipe[electionv1.ElectionServiceClient]{recipeelection.Recipe{}, &electionv1.Config{HistoryOff: true}, electionv1.NewElectionServiceClient}
	return withService(ctx, a, r, atMost, work)
}

// withElection is withElections for a command about one election.
func (a *app) withElection(ctx context.Context, name string, atMost time.Duration, work func(ctx context.Context, t target, e elections) error) error {
	if err := keyspace.CheckName("name", name); err != nil {
		return usage("invalid_name", "", "%s", err)
	}
	return a.withElections(ctx, atMost, work)
}

// allElections returns every election whose name begins with prefix.
func allElections(ctx context.Context, e elections, namespace, prefix string) ([]*electionv1.Election, error) {
	var all []*electionv1.Election
	req := &electionv1.ListRequest{Namespace: namespace, Prefix: prefix, PageSize: 1000}
	for {
		resp, err := ask(ctx, e, electionv1.ElectionServiceClient.List, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetElections()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}

// whoStands adds to a not_found where to see who could have been meant.
func whoStands(err error, name string) error {
	if err == nil {
		return nil
	}
	e := describe(err)
	if e.Reason != "not_found" {
		return err // which may be explained better
	}
	e.Hint = fmt.Sprintf("see who stands with: conclave election contenders %s", quoted(name))
	return e
}
