package admin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/catalog"
)

// Add implements pluginv1.PluginServiceServer.
func (s *Service) Add(stream grpc.ClientStreamingServer[pluginv1.AddRequest, pluginv1.AddResponse]) error {
	err := s.receive(func() (*pluginv1.Piece, error) {
		req, err := stream.Recv()
		return req.GetPiece(), err
	}, func(pkg *catalog.Package) error {
		p, err := s.add(stream.Context(), pkg)
		if err != nil {
			return err
		}
		return stream.SendAndClose(&pluginv1.AddResponse{Plugin: s.describe(p), Warnings: p.prepared.Warnings})
	})
	return problem(err)
}

// Upgrade implements pluginv1.PluginServiceServer.
func (s *Service) Upgrade(stream grpc.ClientStreamingServer[pluginv1.UpgradeRequest, pluginv1.UpgradeResponse]) error {
	name := ""
	err := s.receive(func() (*pluginv1.Piece, error) {
		req, err := stream.Recv()
		if name == "" {
			name = req.GetName()
		}
		return req.GetPiece(), err
	}, func(pkg *catalog.Package) error {
		if pkg.Manifest.Name != name {
			return fmt.Errorf("name: %q %w than the one that was sent, which is %q", name, errName, pkg.Manifest.Name)
		}
		p, before, err := s.upgrade(stream.Context(), pkg)
		if err != nil {
			return err
		}
		return stream.SendAndClose(&pluginv1.UpgradeResponse{Plugin: s.describe(p), Before: before, Warnings: p.prepared.Warnings})
	})
	return problem(err)
}

// receive puts a package together from its pieces, and runs work with it.
func (s *Service) receive(next func() (*pluginv1.Piece, error), work func(*catalog.Package) error) (err error) {
	pieces, err := s.cfg.Catalog.Pieces()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pieces.Close()) }()
	for {
		piece, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = take(pieces, piece)
		}
		if err != nil {
			return err
		}
	}
	pkg, err := pieces.Package()
	if err != nil {
		return err
	}
	return work(pkg)
}

func take(to *catalog.Pieces, piece *pluginv1.Piece) error {
	switch part := piece.GetPart().(type) {
	case *pluginv1.Piece_Manifest:
		return to.Manifest(part.Manifest)
	case *pluginv1.Piece_Signature:
		return to.Signature(part.Signature)
	case *pluginv1.Piece_Descriptors:
		return to.Descriptors(part.Descriptors)
	case *pluginv1.Piece_Binary:
		return to.Binary(part.Binary)
	}
	return nil // the name alone, or a part that a newer caller knows
}

// add starts a plugin that the host does not have, and pins it.
func (s *Service) add(ctx context.Context, pkg *catalog.Package) (_ *plugin, err error) {
	name := pkg.Manifest.Name
	h, done, err := s.begin(name)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.forbidden(name); err != nil {
		return nil, fmt.Errorf("plugin %q: %w", name, err)
	}
	if p := s.find(name); p != nil {
		return nil, fmt.Errorf("plugin %q, version %s, %w: conclave plugin upgrade exchanges it", name, p.pin.Version, catalog.ErrExists)
	}
	prepared, err := s.cfg.Catalog.Prepare(ctx, pkg)
	if err != nil {
		return nil, err
	}
	p := &plugin{name: name, pin: prepared.Pin, prepared: prepared}
	if err := s.start(ctx, h, p); err != nil {
		return nil, errors.Join(err, s.cfg.Catalog.Discard(prepared))
	}
	if err := s.cfg.Catalog.Pin(pkg, prepared); err != nil && prepared.Unpinned {
		return nil, errors.Join(err, s.stop(ctx, h, p), s.cfg.Catalog.Discard(prepared))
	} else if err != nil {
		s.cfg.Log.Warn("not everything of a plugin's earlier version could be removed", "plugin", name, "error", err)
	}
	s.set(func() { s.plugins[name] = p })
	s.cfg.Log.Info("plugin added", "plugin", name, "version", p.pin.Version, "sha256", p.pin.SHA256)
	s.warn(prepared)
	return p, nil
}

// start makes a plugin a recipe of the host, and waits until it serves. After an
// error nothing of it is left. One that is switched off is not started.
func (s *Service) start(ctx context.Context, h Host, p *plugin) (err error) {
	run, err := s.launch(p.prepared)
	if err != nil {
		return err
	}
	p.running = run
	if s.cfg.Off(p.name) {
		return nil
	}
	if err := h.AddRecipe(ctx, run); err != nil {
		s.cfg.Launcher.Forget(run)
		return started(err)
	}
	p.hosted = true
	if err := settled(ctx, run); err != nil {
		return errors.Join(fmt.Errorf("plugin %q, version %s: %w", p.name, p.pin.Version, err), s.stop(ctx, h, p))
	}
	return nil
}

// stop takes a plugin, or what stands in its place, from the host.
func (s *Service) stop(ctx context.Context, h Host, p *plugin) error {
	var err error
	if p.hosted {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoing)
		defer cancel()
		err = h.RemoveRecipe(ctx, p.name)
	}
	if p.running != nil {
		s.cfg.Launcher.Forget(p.running)
	}
	s.set(func() { p.hosted = false })
	return err
}

// clear is stop where something follows that must not fail with it: the host has let go
// of the recipe also after an error.
func (s *Service) clear(ctx context.Context, h Host, p *plugin) {
	if err := s.stop(ctx, h, p); err != nil {
		s.cfg.Log.Warn("a plugin did not stop in order", "plugin", p.name, "error", err)
	}
}

// upgrade exchanges a plugin for another version of it.
func (s *Service) upgrade(ctx context.Context, pkg *catalog.Package) (_ *plugin, before string, err error) {
	name := pkg.Manifest.Name
	h, done, err := s.begin(name)
	if err != nil {
		return nil, "", err
	}
	defer done()
	p := s.find(name)
	if p == nil {
		return nil, "", fmt.Errorf("plugin %q: %w: conclave plugin add adds it", name, catalog.ErrNotFound)
	}
	if p.path != "" {
		return nil, "", fmt.Errorf("plugin %q is not pinned, but of --plugin %s, and %w: conclave plugin restart takes what lies there now", name, p.path, catalog.ErrExists)
	}
	now, err := s.cfg.Catalog.Check(ctx, name) // first: Prepare puts a missing binary back
	if err != nil {
		return nil, "", err
	}
	prepared, err := s.cfg.Catalog.Prepare(ctx, pkg)
	if err != nil {
		return nil, "", err
	}
	before = p.pin.Version
	change := func() error { return s.exchange(ctx, h, p, pkg, prepared) }
	if p.running != nil && now.Err != nil && sameFiles(p, prepared) {
		change = func() error { return s.putBack(p, pkg, prepared) }
	}
	if err := change(); errors.Is(err, errUnrecorded) {
		return nil, "", err // its binary is needed: it runs
	} else if err != nil {
		return nil, "", errors.Join(err, s.cfg.Catalog.Discard(prepared))
	}
	s.cfg.Log.Info("plugin upgraded", "plugin", name, "version", prepared.Pin.Version, "before", before, "sha256", prepared.Pin.SHA256)
	s.warn(prepared)
	return p, before, nil
}

// exchange runs the prepared version in place of the one that was pinned, and pins
// it. After an error the one before is as it was, but where the error says otherwise.
func (s *Service) exchange(ctx context.Context, h Host, p *plugin, pkg *catalog.Package, prepared *catalog.Plugin) error {
	if p.running == nil {
		return s.mended(ctx, h, p, pkg, prepared)
	}
	if prepared.Pin.Version == p.pin.Version {
		return sameVersion(p, prepared)
	}
	if err := p.running.Upgrade(ctx, Spec(prepared)); err != nil {
		return fmt.Errorf("plugin %q, version %s: %w", p.name, prepared.Pin.Version, started(err))
	}
	if err := s.cfg.Catalog.Pin(pkg, prepared); err != nil && prepared.Unpinned {
		return fmt.Errorf("version %s runs and %w, so that the host's next start runs %s: %w", prepared.Pin.Version, errUnrecorded, p.pin.Version, err)
	} else if err != nil {
		s.cfg.Log.Warn("not everything of a plugin's earlier version could be removed", "plugin", p.name, "error", err)
	}
	s.set(func() { p.pin, p.prepared = prepared.Pin, prepared })
	return nil
}

// mended starts a plugin that was refused. When that fails, it is refused again.
func (s *Service) mended(ctx context.Context, h Host, p *plugin, pkg *catalog.Package, prepared *catalog.Plugin) error {
	if err := s.forbidden(p.name); err != nil {
		return fmt.Errorf("plugin %q: %w", p.name, err)
	}
	s.clear(ctx, h, p)
	next := &plugin{name: p.name, pin: prepared.Pin, prepared: prepared}
	err := s.start(ctx, h, next)
	if err == nil && pkg != nil {
		if err = s.cfg.Catalog.Pin(pkg, prepared); err != nil && prepared.Unpinned {
			err = errors.Join(err, s.stop(ctx, h, next))
		} else {
			err = nil
		}
	}
	if err != nil {
		s.standIn(ctx, h, p)
		return err
	}
	s.set(func() {
		p.pin, p.prepared, p.running, p.err, p.hosted = next.pin, prepared, next.running, nil, next.hosted
	})
	return nil
}

// standIn lets the host say again why a plugin is not run.
func (s *Service) standIn(ctx context.Context, h Host, p *plugin) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoing)
	defer cancel()
	if err := h.AddRecipe(ctx, p.recipe()); err != nil {
		s.cfg.Log.Error("nothing stands in a refused plugin's place", "plugin", p.name, "error", err)
		return
	}
	s.set(func() { p.hosted = true })
}

// putBack writes the files of the version that runs anew. Its process goes on: it
// runs the binary that was added.
func (s *Service) putBack(p *plugin, pkg *catalog.Package, prepared *catalog.Plugin) error {
	if err := s.cfg.Catalog.Pin(pkg, prepared); err != nil && prepared.Unpinned {
		return err
	}
	s.set(func() { p.pin, p.prepared = prepared.Pin, prepared })
	return nil
}

func sameFiles(p *plugin, prepared *catalog.Plugin) bool {
	return prepared.Pin.SHA256 == p.pin.SHA256 && prepared.Pin.Manifest == p.pin.Manifest
}

func sameVersion(p *plugin, prepared *catalog.Plugin) error {
	if sameFiles(p, prepared) {
		return fmt.Errorf("plugin %q: version %s %w, and it is the same", p.name, p.pin.Version, catalog.ErrExists)
	}
	return fmt.Errorf("plugin %q: version %s %w, with other files: what is different has another version", p.name, p.pin.Version, catalog.ErrExists)
}

// started is an error of a start: the plugin's, unless it has a reason of its own.
func started(err error) error {
	if problemReason(err) != "internal" {
		return err
	}
	return fmt.Errorf("%w: %w", errFailed, err)
}

func problemReason(err error) string { return recipe.Reason(problem(err)) }

// Remove implements pluginv1.PluginServiceServer.
func (s *Service) Remove(ctx context.Context, req *pluginv1.RemoveRequest) (*pluginv1.RemoveResponse, error) {
	if err := s.remove(ctx, req.GetName()); err != nil {
		return nil, problem(err)
	}
	return &pluginv1.RemoveResponse{}, nil
}

func (s *Service) remove(ctx context.Context, name string) error {
	if err := catalog.CheckName(name); err != nil {
		return err
	}
	h, done, err := s.begin(name)
	if err != nil {
		return err
	}
	defer done()
	p := s.find(name)
	if p != nil {
		s.clear(ctx, h, p)
		s.set(func() { delete(s.plugins, name) })
	}
	if p != nil && p.path != "" {
		return s.cfg.Catalog.Discard(p.prepared)
	}
	if err := s.cfg.Catalog.Remove(name); err != nil {
		return err
	}
	s.cfg.Log.Info("plugin removed", "plugin", name)
	return nil
}

// Restart implements pluginv1.PluginServiceServer.
func (s *Service) Restart(ctx context.Context, req *pluginv1.RestartRequest) (*pluginv1.RestartResponse, error) {
	p, err := s.restart(ctx, req.GetName())
	if err != nil {
		return nil, problem(err)
	}
	return &pluginv1.RestartResponse{Plugin: s.describe(p)}, nil
}

func (s *Service) restart(ctx context.Context, name string) (*plugin, error) {
	if err := catalog.CheckName(name); err != nil {
		return nil, err
	}
	h, done, err := s.begin(name)
	if err != nil {
		return nil, err
	}
	defer done()
	p := s.find(name)
	switch {
	case p == nil:
		return nil, s.stranger(ctx, name)
	case s.cfg.Off(name):
		return nil, fmt.Errorf("plugin %q: %w: recipes.%s.mode is off", name, errRefused, name)
	case p.path != "":
		return p, s.reread(ctx, h, p)
	}
	e, err := s.cfg.Catalog.Check(ctx, name)
	if err == nil {
		err = e.Err
	}
	if err != nil {
		return nil, fmt.Errorf("plugin %q: %w: %w", name, errRefused, err)
	}
	if p.running == nil {
		return p, s.mended(ctx, h, p, nil, e.Plugin)
	}
	return p, s.again(ctx, p)
}

// stranger is the error for a plugin that the host has not got.
func (s *Service) stranger(ctx context.Context, name string) error {
	e, err := s.cfg.Catalog.Check(ctx, name)
	if err != nil {
		return err
	}
	return fmt.Errorf("plugin %q: %w: %w", name, errRefused, e.Err)
}

func (s *Service) again(ctx context.Context, p *plugin) error {
	if err := p.running.Restart(ctx); err != nil {
		return fmt.Errorf("plugin %q: %w", p.name, started(err))
	}
	return nil
}

// reread starts a plugin that is not pinned from what lies at its path now.
func (s *Service) reread(ctx context.Context, h Host, p *plugin) error {
	prepared, err := s.prepare(ctx, p.path)
	if err != nil {
		return err
	}
	old := p.prepared
	switch {
	case prepared.Manifest.Name != p.name:
		err = fmt.Errorf("%s is now the plugin %q, and %q %w", p.path, prepared.Manifest.Name, p.name, errName)
	case p.running == nil:
		err = s.mended(ctx, h, p, nil, prepared)
	case prepared.Pin == p.pin:
		err = s.again(ctx, p)
	default:
		if err = p.running.Upgrade(ctx, Spec(prepared)); err != nil {
			err = fmt.Errorf("plugin %q: %w", p.name, started(err))
		}
	}
	if err != nil {
		return errors.Join(err, s.cfg.Catalog.Discard(prepared))
	}
	s.set(func() { p.pin, p.prepared = prepared.Pin, prepared })
	if old == nil {
		return nil
	}
	return s.cfg.Catalog.Discard(old)
}
