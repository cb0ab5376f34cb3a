package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// A Program is a finished program, and how it is started.
type Program struct {
	Path string   `json:"path"`           // the executable, absolute
	Args []string `json:"args,omitempty"` // its arguments
	Env  []string `json:"env,omitempty"`  // KEY=value, beside the clean environment that every plugin has
}

// A plugged is a plugin as a program, and what a launcher has to know of it.
type plugged struct {
	Program

	spec launcher.Spec
}

// ProgramSubject is a plugin as a finished program, of whatever language. The
// program is run once with --describe=binary, unless its description is given.
func ProgramSubject(ctx context.Context, p Program, about *pluginv1.Description) (Subject, error) {
	ask := p.describe
	if about != nil {
		ask = func(context.Context) (*pluginv1.Description, error) { return about, nil }
	}
	about, err := ask(ctx)
	if err != nil {
		return Subject{}, err
	}
	return subjectOf(launcher.Spec{
		Name: about.GetName(), Version: about.GetVersion(), Summary: about.GetSummary(), Path: p.Path, Args: p.Args, Env: p.Env,
		Descriptors: about.GetDescriptors(), Services: about.GetServices(), Config: about.GetConfig(), HostSocket: about.GetHostSocket(),
	}, ask)
}

// SpecSubject is a plugin as a launcher starts it, such as one that comes with a
// manifest. What its program says of itself has to agree with it.
func SpecSubject(spec launcher.Spec) (Subject, error) {
	return subjectOf(spec, Program{Path: spec.Path, Args: spec.Args, Env: spec.Env}.describe)
}

func subjectOf(spec launcher.Spec, ask func(context.Context) (*pluginv1.Description, error)) (Subject, error) {
	info, err := infoOf(spec)
	if err != nil {
		return Subject{}, err
	}
	of := &plugged{Program: Program{Path: spec.Path, Args: spec.Args, Env: spec.Env}, spec: spec}
	return Subject{
		carrier: Subprocess, info: info, program: of,
		again: func(ctx context.Context) (recipe.Info, error) {
			about, err := ask(ctx)
			if err != nil {
				return recipe.Info{}, err
			}
			return infoOf(launcher.Spec{Name: about.GetName(), Version: about.GetVersion(), Summary: about.GetSummary(),
				Descriptors: about.GetDescriptors(), Services: about.GetServices(), Config: about.GetConfig()})
		},
		run: func(_ context.Context, s *Suite, _ probing) (runner, error) { return of.run(s) },
	}, nil
}

// describe asks the program what it is.
func (p Program) describe(ctx context.Context) (*pluginv1.Description, error) {
	cmd := p.command(ctx, "--describe=binary")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s --describe=binary: %w: %s", p.Path, err, oneLine(complaint.String()))
	}
	d := new(pluginv1.Description)
	if err := proto.Unmarshal(out, d); err != nil {
		return nil, fmt.Errorf("%s --describe=binary prints no conclave.plugin.v1.Description: %w", p.Path, err)
	}
	return d, nil
}

// command returns the program in an environment like that of a plugin.
func (p Program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.Path, slices.Concat(p.Args, args)...)
	cmd.WaitDelay = time.Second // for what it has started and left behind
	cmd.Env = []string{}
	for _, key := range []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"} {
		if v, ok := os.LookupEnv(key); ok {
			cmd.Env = append(cmd.Env, key+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, p.Env...)
	return cmd
}

// infoOf is what a plugin's description comes to as Info.
func infoOf(d launcher.Spec) (recipe.Info, error) {
	i := recipe.Info{Name: d.Name, Version: d.Version, Summary: d.Summary}
	files, err := protodesc.NewFiles(d.Descriptors)
	if err != nil {
		return i, fmt.Errorf("descriptors: %w", err)
	}
	for _, name := range d.Services {
		if _, err := found(files, name); err != nil {
			return i, fmt.Errorf("descriptors: %w", err)
		}
	}
	if d.Config == "" {
		return i, nil
	}
	md, err := files.FindDescriptorByName(protoreflect.FullName(d.Config))
	if err != nil {
		return i, fmt.Errorf("descriptors: config: %w", err)
	}
	m, ok := md.(protoreflect.MessageDescriptor)
	if !ok {
		return i, fmt.Errorf("descriptors: config: %s is no message", d.Config)
	}
	i.Config = dynamicpb.NewMessage(m)
	return i, nil
}

func (p *plugged) run(s *Suite) (runner, error) {
	l := launcher.New(tireless(s.log)) // which never tires of a plugin that is killed
	of, err := l.Plugin(p.spec)
	if err != nil {
		return nil, errors.Join(err, l.Close(context.Background()))
	}
	return &supervised{launcher: l, plugin: of}, nil
}
