package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

// CheckPackageDocs reports packages without a package comment.
func CheckPackageDocs(packages []Package) []string {
	var violations []string
	for _, p := range packages {
		if _, ours := p.Rel(); ours && p.Doc == "" && len(p.GoFiles) > 0 {
			violations = append(violations,
				p.ImportPath+": no package comment: it is the first thing that a reader of the package meets")
		}
	}
	return violations
}

// Methods whose meaning is that of the interface of the standard library that
// they implement, and of which a comment could only repeat the name.
var selfEvident = map[string]bool{
	"Error": true, "String": true, "Unwrap": true, "Is": true, "As": true,
	"Len": true, "Less": true, "Swap": true, "Read": true, "Write": true,
	"MarshalJSON": true, "UnmarshalJSON": true, "MarshalText": true, "UnmarshalText": true,
}

// CheckExports reports exported identifiers without a doc comment: functions,
// types, methods of exported types, constants, variables, and the exported
// fields and methods inside exported types. Packages below internal/ and cmd/
// are free, and so are tests: nobody outside can import them.
func CheckExports(files []GoFile) []string {
	var violations []string
	for _, f := range files {
		if f.Test() || closed(f.Path) {
			continue
		}
		c := exportChecker{file: f}
		for _, d := range f.Syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				c.function(d)
			case *ast.GenDecl:
				c.general(d)
			}
		}
		violations = append(violations, c.violations...)
	}
	return violations
}

// closed reports whether code outside the module cannot import the file's package.
func closed(p string) bool {
	return strings.HasPrefix(p, "cmd/") || strings.HasPrefix(p, "internal/") || strings.Contains(p, "/internal/")
}

type exportChecker struct {
	file       GoFile
	violations []string
}

func (c *exportChecker) report(id *ast.Ident, kind, name string) {
	c.violations = append(c.violations,
		fmt.Sprintf("%s: exported %s %s has no doc comment: users read the documentation, not the code", c.file.Line(id.Pos()), kind, name))
}

func (c *exportChecker) function(d *ast.FuncDecl) {
	if !d.Name.IsExported() || documented(d.Doc) {
		return
	}
	if d.Recv == nil {
		c.report(d.Name, "function", d.Name.Name)
		return
	}
	if on := receiver(d.Recv.List[0].Type); ast.IsExported(on) && !selfEvident[d.Name.Name] {
		c.report(d.Name, "method", on+"."+d.Name.Name)
	}
}

func (c *exportChecker) general(d *ast.GenDecl) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if !s.Name.IsExported() {
				continue
			}
			// Of a group "type ( … )" each type needs a comment of its own.
			if !documented(s.Doc) && (d.Lparen.IsValid() || !documented(d.Doc)) {
				c.report(s.Name, "type", s.Name.Name)
			}
			c.members(s)
		case *ast.ValueSpec:
			// A comment on a group of constants or variables covers the group.
			if documented(d.Doc) || documented(s.Doc) || documented(s.Comment) {
				continue
			}
			for _, name := range s.Names {
				if name.IsExported() {
					c.report(name, kindOf(d.Tok), name.Name)
				}
			}
		}
	}
}

func (c *exportChecker) members(s *ast.TypeSpec) {
	var fields *ast.FieldList
	switch t := s.Type.(type) {
	case *ast.StructType:
		fields = t.Fields
	case *ast.InterfaceType:
		fields = t.Methods
	default:
		return
	}
	for _, field := range fields.List {
		if documented(field.Doc) || documented(field.Comment) {
			continue
		}
		for _, name := range field.Names {
			if name.IsExported() && !selfEvident[name.Name] {
				c.report(name, "member", s.Name.Name+"."+name.Name)
			}
		}
	}
}

func documented(g *ast.CommentGroup) bool { return g != nil && strings.TrimSpace(g.Text()) != "" }

func kindOf(tok token.Token) string {
	if tok == token.CONST {
		return "constant"
	}
	return "variable"
}

// receiver returns the name of the type that a method is on.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
