package discovery

import (
	"context"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
)

// Register implements the method of the DiscoveryService.
func (i *instance) Register(ctx context.Context, req *discoveryv1.RegisterRequest) (*discoveryv1.RegisterResponse, error) {
	s, err := i.session(ctx, req)
	if err != nil {
		return nil, err
	}
	want := discovery.Instance{Service: req.GetName(), ID: req.GetId(), Addr: req.GetAddr(), Metadata: req.GetMetadata(), Tags: req.GetTags(),
		Weight: int(req.GetWeight()), Zone: req.GetZone(), Version: req.GetVersion(), State: discovery.State(req.GetState()),
		Checks: hostChecks(req.GetChecks())}
	token, err := bounded(ctx, writing, func(ctx context.Context) (core.Token, error) { return discovery.Announce(ctx, s, want) })
	if err != nil {
		return nil, err
	}
	if want.ID == "" {
		want.ID = want.Addr
	}
	return &discoveryv1.RegisterResponse{Token: int64(token), Name: want.Service, Id: want.ID}, nil
}

// SetState implements the method of the DiscoveryService.
func (i *instance) SetState(ctx context.Context, req *discoveryv1.SetStateRequest) (*discoveryv1.SetStateResponse, error) {
	s, err := i.session(ctx, req)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, writing, func(ctx context.Context) (*discoveryv1.SetStateResponse, error) {
		return &discoveryv1.SetStateResponse{}, discovery.Change(ctx, s, req.GetName(), req.GetId(), core.Token(req.GetToken()), discovery.State(req.GetState()))
	})
}

// Deregister implements the method of the DiscoveryService.
func (i *instance) Deregister(ctx context.Context, req *discoveryv1.DeregisterRequest) (*discoveryv1.DeregisterResponse, error) {
	s, err := i.session(ctx, req)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, writing, func(ctx context.Context) (*discoveryv1.DeregisterResponse, error) {
		return &discoveryv1.DeregisterResponse{}, discovery.Withdraw(ctx, s, req.GetName(), req.GetId(), core.Token(req.GetToken()))
	})
}

// Mark implements the method of the DiscoveryService.
func (i *instance) Mark(ctx context.Context, req *discoveryv1.MarkRequest) (*discoveryv1.MarkResponse, error) {
	namespace, err := named(ctx, req)
	if err != nil {
		return nil, err
	}
	by := req.GetBy()
	if c, ok := recipe.CallerFrom(ctx); ok && c.Identity != "" {
		by = c.Identity
	}
	return bounded(ctx, writing, func(ctx context.Context) (*discoveryv1.MarkResponse, error) {
		return &discoveryv1.MarkResponse{}, discovery.Mark(ctx, i.env.Client, namespace, req.GetName(), req.GetId(), discovery.State(req.GetState()), by)
	})
}

// session returns the caller's session, in the namespace of its request.
func (i *instance) session(ctx context.Context, req request) (*core.Session, error) {
	if _, err := named(ctx, req); err != nil {
		return nil, err
	}
	return recipe.Session(ctx, i.env)
}
