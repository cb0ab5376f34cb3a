package conformance

import "context"

// A Program is a plugin as a finished program, of whatever language.
type Program struct {
	Path string   // the executable
	Args []string // its arguments
	Env  []string // "KEY=value", beside the clean environment that every plugin has
}

func (p *Program) byHand(context.Context) error           { return skip("not yet") }
func (p *Program) protocol(context.Context) error         { return skip("not yet") }
func (p *Program) hostLoss(context.Context, *Suite) error { return skip("not yet") }
