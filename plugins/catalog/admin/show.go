package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/catalog"
)

// List implements pluginv1.PluginServiceServer.
func (s *Service) List(context.Context, *pluginv1.ListRequest) (*pluginv1.ListResponse, error) {
	s.mu.Lock()
	all := make([]*plugin, 0, len(s.plugins))
	for _, p := range s.plugins {
		all = append(all, p)
	}
	s.mu.Unlock()
	resp := new(pluginv1.ListResponse)
	for _, p := range all {
		resp.Plugins = append(resp.Plugins, s.describe(p))
	}
	for _, e := range s.cfg.Catalog.NotAdded() {
		if s.find(e.Name) == nil {
			resp.Plugins = append(resp.Plugins, &pluginv1.Plugin{Name: e.Name, State: pluginv1.PluginState_PLUGIN_STATE_DISCOVERED, Message: e.Err.Error()})
		}
	}
	slices.SortFunc(resp.Plugins, func(a, b *pluginv1.Plugin) int { return strings.Compare(a.GetName(), b.GetName()) })
	return resp, nil
}

// describe tells how a plugin is.
func (s *Service) describe(p *plugin) *pluginv1.Plugin {
	s.mu.Lock()
	pin, prepared, run, err, path := p.pin, p.prepared, p.running, p.err, p.path
	s.mu.Unlock()
	told := &pluginv1.Plugin{Name: p.name, Version: pin.Version, Sha256: string(pin.SHA256), KeyId: pin.Key, Unpinned: path != ""}
	if prepared != nil {
		told.Summary, told.Services = prepared.Manifest.Summary, prepared.Manifest.Services
	}
	switch {
	case err != nil:
		told.State, told.Message = pluginv1.PluginState_PLUGIN_STATE_REFUSED, err.Error()
	case s.cfg.Off(p.name):
		told.State = pluginv1.PluginState_PLUGIN_STATE_OFF
	default:
		now := run.Status()
		told.Version, told.State, told.Message = now.Version, stateOf(now.State), now.Detail
		told.Pid, told.Restarts = int64(now.PID), now.Restarts
		if !now.Since.IsZero() {
			told.Since = timestamppb.New(now.Since)
		}
		if c := now.Crash; c != nil {
			told.Crash = fmt.Sprintf("version %s, process %d, %s: %s\n%s", c.Version, c.PID, c.At.UTC().Format("2006-01-02T15:04:05Z"), c.Reason, c.Output)
		}
	}
	return told
}

func stateOf(s recipe.State) pluginv1.PluginState {
	switch s {
	case recipe.StateReady:
		return pluginv1.PluginState_PLUGIN_STATE_READY
	case recipe.StateStarting:
		return pluginv1.PluginState_PLUGIN_STATE_STARTING
	case recipe.StateDegraded:
		return pluginv1.PluginState_PLUGIN_STATE_DEGRADED
	case recipe.StateBackoff:
		return pluginv1.PluginState_PLUGIN_STATE_BACKOFF
	case recipe.StateQuarantined:
		return pluginv1.PluginState_PLUGIN_STATE_QUARANTINED
	case recipe.StateDraining:
		return pluginv1.PluginState_PLUGIN_STATE_DRAINING
	case recipe.StateStopped:
		return pluginv1.PluginState_PLUGIN_STATE_STOPPED
	}
	return pluginv1.PluginState_PLUGIN_STATE_UNSPECIFIED
}

// Verify implements pluginv1.PluginServiceServer.
func (s *Service) Verify(ctx context.Context, req *pluginv1.VerifyRequest) (*pluginv1.VerifyResponse, error) {
	entries, err := s.entries(ctx, req.GetName())
	if err != nil {
		return nil, problem(err)
	}
	resp := new(pluginv1.VerifyResponse)
	for _, e := range entries {
		resp.Verdicts = append(resp.Verdicts, verdict(e))
	}
	return resp, nil
}

func (s *Service) entries(ctx context.Context, name string) ([]catalog.Entry, error) {
	if name == "" {
		entries, err := s.cfg.Catalog.Load(ctx)
		if len(entries) > 0 {
			err = nil // each of them has it
		}
		return entries, err
	}
	if err := catalog.CheckName(name); err != nil {
		return nil, err
	}
	e, err := s.cfg.Catalog.Check(ctx, name)
	if err != nil {
		return nil, err
	}
	return []catalog.Entry{e}, nil
}

func verdict(e catalog.Entry) *pluginv1.Verdict {
	v := &pluginv1.Verdict{Name: e.Name, Version: e.Pin.Version, Sha256: string(e.Pin.SHA256), Ok: e.Err == nil}
	if e.Plugin != nil {
		v.KeyId, v.Warnings = e.Plugin.Pin.Key, e.Plugin.Warnings
	}
	if e.Err != nil {
		v.Text, v.Hint = e.Err.Error(), hintOf(e.Name, e.Err)
		if v.Reason = reasonOf(e.Err); v.Reason == "" {
			v.Reason = "unreadable"
		}
	}
	return v
}

// Logs implements pluginv1.PluginServiceServer.
func (s *Service) Logs(req *pluginv1.LogsRequest, stream grpc.ServerStreamingServer[pluginv1.LogsResponse]) error {
	p := s.find(req.GetName())
	if p == nil {
		return problem(fmt.Errorf("plugin %q: %w", req.GetName(), catalog.ErrNotFound))
	}
	s.mu.Lock()
	run := p.running
	s.mu.Unlock()
	if run == nil {
		return nil // it has never written anything
	}
	for line := range run.Logs(stream.Context(), req.GetFollow()) {
		if err := stream.Send(&pluginv1.LogsResponse{Output: []byte(line.Text + "\n")}); err != nil {
			return err
		}
	}
	return nil
}
