module github.com/shardmill/shardmill/sdk/go

go 1.24
