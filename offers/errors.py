"""Every mistake that a caller can make, as one tree. The command line turns each into exit code 2.

OffersError
├── ContractError    the contract file is wrong
├── CatalogueError   the catalogue file is wrong, or does not fit the contract
├── CampaignError    the campaign file is wrong, or its constraints can't all hold
├── SourceError      the data can't be had, or is not what the contract says it is
├── DataError        the rows break the contract
├── GateError        the gate can't be asked, or the candidate did not pass it
├── BundleError      a model bundle is damaged, incomplete or foreign
├── LedgerError      the ledger is damaged, or its rules refuse what is asked
├── PolicyError      the policy is asked for what it can't rank
├── RequestError     a request to a service breaks the contract
│   └── RequestTooLarge  it holds more rows than one request may
├── ServiceError     a service can't be started
└── StorageError     a result can't be written or read
"""


class OffersError(Exception):
    """A mistake that the caller can mend; its message says what was expected, what arrived, where, what to do.

    `passes` is true of a fault that may be over in a moment, as another machine was away.
    """

    def __init__(self, message: str = "", passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


class ContractError(OffersError):
    """The contract file is wrong: names its line and key."""


class CatalogueError(OffersError):
    """The catalogue file is wrong, or does not fit the contract: names its line and key."""


class CampaignError(OffersError):
    """The campaign file is wrong, names what no offer has, or its constraints can't all hold."""


class SourceError(OffersError):
    """The data can't be fetched, or its checksum or form is not the declared one."""


class DataError(OffersError):
    """The rows break the contract."""


class GateError(OffersError):
    """The gate can't be asked, or the candidate did not pass it."""


class BundleError(OffersError):
    """A model bundle is damaged, incomplete, or made by libraries that score differently."""


class LedgerError(OffersError):
    """The ledger does not hold, or the actor may not do what is asked: names the entry, the release or the key."""


class PolicyError(OffersError):
    """The policy is asked for what it can't rank: a column or a propensity is missing, an offer is unknown, k is 0."""


class RequestError(OffersError):
    """A request to a service breaks the contract: names the field, what was expected and what arrived."""


class RequestTooLarge(RequestError):  # noqa: N818
    """A request holds more rows, or more bytes, than one request may."""


class ServiceError(OffersError):
    """A service can't be started: a port is taken, an address is not this machine's."""


class StorageError(OffersError):
    """A result can't be written or read: disk full, no permission, object store away."""
