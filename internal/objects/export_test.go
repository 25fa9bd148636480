package objects

// UseSidecars makes d behave as on a file system without extended attributes.
func (d *Dir) UseSidecars() { d.attributes = &sidecars{d: d} }

// OnStep sets a function that is called before each step of a write; an error fails the step.
func (d *Dir) OnStep(f func(op, path string) error) { d.step = f }

var (
	PathOf    = pathOf
	SegmentOf = segmentOf
	NameOf    = nameOf
	CheckKey  = checkKey
)
