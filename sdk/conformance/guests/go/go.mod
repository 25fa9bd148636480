module guest

go 1.24

require github.com/shardmill/shardmill/sdk/go v0.0.0

replace github.com/shardmill/shardmill/sdk/go => ../../../go
