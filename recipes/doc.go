// Package recipes is the folder of the standard recipes: one package each, a
// gRPC service over the library of the same name.
//
// A recipe is thin. It checks a request, calls the library with the caller's
// borrowed session, and turns the result into an answer or a reason. What every
// recipe shares belongs in core/recipe, what a library user could want too belongs
// in the library, and what those share whose names have owners and a line is in
// recipes/internal: their keys as they stand, their history, and what an instance
// keeps. A recipe of a third party is written the same way and has no way to do
// more; core/recipe says how.
package recipes
