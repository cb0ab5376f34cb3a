package config

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
)

const reasonNoRollout = "no_rollout"

// rolloutStatus is the error of a call about a rollout.
func rolloutStatus(key string, err error) error {
	if errors.Is(err, config.ErrNoRollout) || errors.Is(err, config.ErrNotFound) {
		return recipe.Errorf(codes.FailedPrecondition, reasonNoRollout, "config %q: no such rollout is running", key)
	}
	return err
}

// StartRollout implements the method of the ConfigService.
func (i *instance) StartRollout(ctx context.Context, req *configv1.StartRolloutRequest) (*configv1.StartRolloutResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	c, err := change(req, req.IfRevision)
	if err != nil {
		return nil, err
	}
	scope := config.Scope{Percent: req.GetPercent(), Labels: req.GetLabels()}
	revision, err := bounded(ctx, writing, func(ctx context.Context) (revision int64, err error) {
		for range maxSchemaChanges {
			if err = attach(ctx, s, &c); err != nil {
				break
			}
			if revision, err = s.StartRollout(ctx, c, scope, said(ctx, req)...); !errors.Is(err, config.ErrSchemaChanged) {
				break
			}
		}
		return revision, err
	})
	if err != nil {
		return nil, err
	}
	return &configv1.StartRolloutResponse{Revision: revision}, nil
}

// running returns the revision of a key's rollout, unless the request names it.
func running(ctx context.Context, s *config.Store, key string, named int64) (int64, error) {
	if named < 0 {
		return 0, invalid("revision", "%d is negative", named)
	}
	if named != 0 {
		return named, nil
	}
	r, err := s.Rollout(ctx, key)
	if err != nil {
		return 0, rolloutStatus(key, err)
	}
	return r.Candidate.Revision, nil
}

// ScopeRollout implements the method of the ConfigService.
func (i *instance) ScopeRollout(ctx context.Context, req *configv1.ScopeRolloutRequest) (*configv1.ScopeRolloutResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	return bounded(ctx, writing, func(ctx context.Context) (*configv1.ScopeRolloutResponse, error) {
		rev, err := running(ctx, s, req.GetKey(), req.GetRevision())
		if err == nil {
			err = rolloutStatus(req.GetKey(), s.SetScope(ctx, req.GetKey(), rev, config.Scope{Percent: req.GetPercent(), Labels: req.GetLabels()}))
		}
		return new(configv1.ScopeRolloutResponse), err
	})
}

// PromoteRollout implements the method of the ConfigService.
func (i *instance) PromoteRollout(ctx context.Context, req *configv1.PromoteRolloutRequest) (*configv1.PromoteRolloutResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	return bounded(ctx, writing, func(ctx context.Context) (*configv1.PromoteRolloutResponse, error) {
		rev, err := running(ctx, s, req.GetKey(), req.GetRevision())
		if err != nil {
			return nil, err
		}
		for range maxSchemaChanges {
			if rev, err = promote(ctx, s, req, rev); !errors.Is(err, config.ErrSchemaChanged) {
				break
			}
		}
		return &configv1.PromoteRolloutResponse{Revision: rev}, rolloutStatus(req.GetKey(), err)
	})
}

func promote(ctx context.Context, s *config.Store, req *configv1.PromoteRolloutRequest, rev int64) (int64, error) {
	r, err := s.Rollout(ctx, req.GetKey())
	if err != nil {
		return rev, err
	}
	c := config.Change{Key: req.GetKey(), Value: r.Candidate.Value}
	if err := attach(ctx, s, &c); err != nil {
		return rev, err
	}
	by := said(ctx, req)
	if req.GetMessage() == "" {
		by = append(by, config.Message(r.Candidate.Message))
	}
	last, err := s.Promote(ctx, req.GetKey(), rev, c.Schema, by...)
	if err != nil {
		return rev, err
	}
	return last, nil
}

// AbortRollout implements the method of the ConfigService.
func (i *instance) AbortRollout(ctx context.Context, req *configv1.AbortRolloutRequest) (*configv1.AbortRolloutResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	for field, text := range map[string]string{"author": req.GetAuthor(), "reason": req.GetReason()} {
		limit := map[string]int{"author": config.MaxAuthor, "reason": config.MaxMessage}[field]
		if err := keyspace.CheckText(field, text, limit); err != nil {
			return nil, recipe.Status(fmt.Errorf("%w: %w", core.ErrInvalid, err))
		}
	}
	return bounded(ctx, writing, func(ctx context.Context) (*configv1.AbortRolloutResponse, error) {
		rev, err := running(ctx, s, req.GetKey(), req.GetRevision())
		if err == nil {
			err = s.Refuse(ctx, req.GetKey(), rev, author(ctx, req.GetAuthor()), req.GetReason())
		}
		return new(configv1.AbortRolloutResponse), err
	})
}

// Status implements the method of the ConfigService.
func (i *instance) Status(ctx context.Context, req *configv1.StatusRequest) (*configv1.StatusResponse, error) {
	s, err := i.store(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	return bounded(ctx, reading, func(ctx context.Context) (*configv1.StatusResponse, error) {
		resp := new(configv1.StatusResponse)
		v, err := s.Get(ctx, req.GetKey())
		switch {
		case err == nil && !v.Deleted:
			resp.Revision = v.Revision
		case err != nil && !errors.Is(err, config.ErrNotFound) && !errors.Is(err, config.ErrDamaged):
			return nil, err
		}
		r, err := s.Rollout(ctx, req.GetKey())
		if err == nil {
			resp.Rollout = rolloutOf(r)
		} else if !errors.Is(err, config.ErrNotFound) {
			return nil, err
		}
		all, err := s.Instances(ctx, req.GetKey())
		for _, one := range all {
			resp.Instances = append(resp.Instances, &configv1.Instance{Id: one.ID, Labels: one.Labels, Revision: one.Revision, Candidate: one.Candidate,
				Rejected: one.Rejected, RejectedRevision: one.RejectedRevision, Time: timeOf(one.Time)})
		}
		return resp, err
	})
}

func rolloutOf(r *config.Rollout) *configv1.Rollout {
	m := &configv1.Rollout{Revision: r.Candidate.Revision, State: "running", Percent: r.Scope.Percent, Labels: r.Scope.Labels, RefusedBy: r.By, Reason: r.Reason,
		Author: r.Candidate.Author, Message: r.Candidate.Message, Time: timeOf(r.Candidate.Time)}
	switch {
	case r.Refused:
		m.State = "refused"
	case r.Superseded:
		m.State = "superseded"
	}
	return m
}
