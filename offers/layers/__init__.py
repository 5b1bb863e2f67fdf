"""The layers of a contract, each a Delta table: bronze as rows came, silver by the contract, gold to learn from."""
